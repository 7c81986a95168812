//! Disk images down to their partitions: the guest's bytes first, so that two containers of one disk are told apart from two
//! disks.

use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;

use super::bytes::{Shared, Window, first_difference};
use super::qcow2::Qcow2;
use super::table::{Partition, Table};
use super::vmdk::Vmdk;
use super::{Kind, Looked, Walk, What, causes, kind_of};

/// A disk image's guest, and how it is stored.
struct Image {
    guest: Shared,
    layout: String,
    descriptor: Vec<String>,
}

fn image(bytes: &Shared, kind: Kind) -> io::Result<Image> {
    Ok(match kind {
        Kind::Qcow2 => {
            let image = Qcow2::open(bytes)?;
            Image { layout: image.layout(), guest: Rc::new(image), descriptor: Vec::new() }
        }
        Kind::Vmdk => {
            let image = Vmdk::open(bytes)?;
            Image { layout: image.layout(), descriptor: image.descriptor(), guest: Rc::new(image) }
        }
        _ => Image { guest: Rc::clone(bytes), layout: "a raw disk".to_owned(), descriptor: Vec::new() },
    })
}

impl Walk<'_> {
    /// Compares two disk images by what a guest sees.
    pub(super) fn images(&mut self, (a, x): (&Shared, Kind), (b, y): (&Shared, Kind)) -> io::Result<Looked> {
        let (first, second) = (image(a, x)?, image(b, y)?);
        let mark = self.report.mark();
        self.pair(&first.guest, &second.guest)?;
        if self.report.mark() != mark {
            return Ok(Looked::Told);
        }
        if first.layout != second.layout {
            return Ok(Looked::Same(format!("its container differs ({}; {})", first.layout, second.layout)));
        }
        let other = first.descriptor.iter().zip(&second.descriptor).find(|(x, y)| x != y);
        Ok(Looked::Same(match other {
            Some((x, y)) => format!("its container differs (`{x}`; `{y}`)"),
            None => format!("its container differs ({} both)", first.layout),
        }))
    }

    /// Compares two partitioned disks; gives how they differ when no part of them does.
    pub(super) fn tables(&mut self, a: &Shared, b: &Shared) -> io::Result<String> {
        let (first, second) = (Table::read(a)?, Table::read(b)?);
        let name = format!("partition table ({})", first.label);
        let before = self.report.mark();
        self.property("disk", "size", a.size(), b.size());
        self.property("partition table", "type", first.label, second.label);
        if first.label != second.label {
            return Ok(String::new());
        }
        for ((field, x), (_, y)) in first.fields.iter().zip(&second.fields) {
            self.property(&name, field, x, y);
        }
        let numbers: BTreeSet<&u32> = first.partitions.keys().chain(second.partitions.keys()).collect();
        for number in &numbers {
            match (first.partitions.get(number), second.partitions.get(number)) {
                (Some(x), Some(y)) => self.partition_fields(**number, x, y),
                (Some(_), None) => self.tell_at(&format!("partition {number}"), What::OnlyInFirst, None),
                (None, Some(_)) => self.tell_at(&format!("partition {number}"), What::OnlyInSecond, None),
                (None, None) => {}
            }
        }
        let table_differs = self.report.mark() != before;
        for number in numbers {
            if let (Some(x), Some(y)) = (first.partitions.get(number), second.partitions.get(number)) {
                self.partition(*number, (a, x), (b, y))?;
            }
        }
        self.outside(&first, table_differs, a, b)?;
        Ok("bytes outside its partitions differ".to_owned())
    }

    fn partition_fields(&mut self, number: u32, x: &Partition, y: &Partition) {
        for ((field, x), (_, y)) in x.fields.iter().zip(&y.fields) {
            self.property(&format!("partition {number}"), field, x, y);
        }
    }

    fn partition(
        &mut self,
        number: u32,
        (a, x): (&Shared, &Partition),
        (b, y): (&Shared, &Partition),
    ) -> io::Result<()> {
        let (a, b) = (Window::of(a, x.start, x.size), Window::of(b, y.start, y.size));
        let name = match kind_of(&a)? {
            Kind::Ext4 => format!("partition {number} (ext4)"),
            Kind::Fat => format!("partition {number} (FAT)"),
            _ => format!("partition {number}"),
        };
        self.below(&name, &a, &b)
    }

    /// Boot code, tables and gaps.
    fn outside(&mut self, table: &Table, told: bool, a: &Shared, b: &Shared) -> io::Result<()> {
        for part in table.outside(a.size()) {
            // What differs in a table as bytes is told by its fields, and shows in its checksums and its copy.
            if part.is_table && told {
                continue;
            }
            let (x, y) =
                (Window::of(a, part.start, part.end - part.start), Window::of(b, part.start, part.end - part.start));
            let cut = x.size().min(y.size());
            let (x, y) = (Window::of(&x, 0, cut), Window::of(&y, 0, cut));
            if let Some(at) = first_difference(x.as_ref(), y.as_ref())? {
                let what = What::Structure { name: part.name.to_owned(), byte: part.start + at, count: 1 };
                self.tell(what, causes::of_field(part.name));
            }
        }
        Ok(())
    }
}
