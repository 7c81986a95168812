//! Reading a database: every offset is checked, every page is read once, and no byte becomes more than one byte of the maps,
//! so that nothing in a file can make the reader take more memory than the file, or not end.

use std::collections::BTreeSet;

use super::{
    BRANCH_PAGE, BUCKET, BoltError, Bucket, ELEMENT, HEADER, IS_BUCKET, Item, LEAF_PAGE, MAGIC, MAX_DEPTH, MAX_KEY,
    META, META_PAGE, VERSION, fnv64a,
};

/// Page sizes there are: of small test systems up to the largest a kernel has.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 9..=16;

/// The root bucket of the database in `bytes`, with everything in it.
///
/// # Errors
/// No valid meta page; pages, elements and trees that contradict the format.
pub fn read(bytes: &[u8]) -> Result<Bucket, BoltError> {
    let meta = meta(bytes)?;
    let mut reader = Reader { bytes, page_size: meta.page_size, seen: BTreeSet::new(), left: bytes.len() };
    let mut root = Bucket { sequence: meta.sequence, ..Bucket::default() };
    reader.tree(meta.root, &mut root, 0, 0)?;
    Ok(root)
}

/// What a meta page says.
#[derive(Clone, Copy)]
struct Meta {
    page_size: usize,
    root: u64,
    sequence: u64,
    transaction: u64,
}

/// The valid meta page of the latest transaction. The second one stands on page 1, wherever that is.
fn meta(bytes: &[u8]) -> Result<Meta, BoltError> {
    let first = meta_at(bytes, 0);
    let second = PAGE_SIZES.filter_map(|power| {
        let size = 1_usize.checked_shl(power)?;
        meta_at(bytes, size).filter(|meta| meta.page_size == size)
    });
    let newest = first.into_iter().chain(second).max_by_key(|meta| meta.transaction);
    newest.ok_or(BoltError::NotOne("it has no valid meta page"))
}

fn meta_at(bytes: &[u8], at: usize) -> Option<Meta> {
    let flags = u16_at(bytes, at + 8)?;
    let body = bytes.get(at + HEADER..at + HEADER + META + 8)?;
    let page_size = u32_at(body, 8)?;
    let known = u32_at(body, 0)? == MAGIC && u32_at(body, 4)? == VERSION;
    let sized = page_size.is_power_of_two() && PAGE_SIZES.contains(&page_size.ilog2());
    let whole = u64_at(body, META)? == fnv64a(body.get(..META)?);
    (flags & META_PAGE != 0 && known && sized && whole).then_some(Meta {
        page_size: page_size as usize,
        root: u64_at(body, 16)?,
        sequence: u64_at(body, 24)?,
        transaction: u64_at(body, 48)?,
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    page_size: usize,
    seen: BTreeSet<u64>,
    /// Bytes that keys and values may still take.
    left: usize,
}

impl<'a> Reader<'a> {
    /// Reads the tree whose root is the page `id` into `into`: `pages` levels below its bucket's root, `buckets` deep.
    fn tree(&mut self, id: u64, into: &mut Bucket, pages: usize, buckets: usize) -> Result<(), BoltError> {
        let bad = |why| BoltError::Page { page: id, why };
        if pages > MAX_DEPTH {
            return Err(bad("the tree is too deep"));
        }
        if !self.seen.insert(id) {
            return Err(bad("two things stand on it"));
        }
        let page = self.page(id).ok_or(bad("it is not in the file"))?;
        if u64_at(page, 0) != Some(id) {
            return Err(bad("another page's number stands on it"));
        }
        match u16_at(page, 8) {
            Some(LEAF_PAGE) => self.leaf(id, page, into, buckets),
            Some(BRANCH_PAGE) => {
                for index in 0..usize::from(u16_at(page, 10).unwrap_or_default()) {
                    let child =
                        u64_at(page, HEADER + index * ELEMENT + 8).ok_or(bad("its branches do not fit on it"))?;
                    self.tree(child, into, pages + 1, buckets)?;
                }
                Ok(())
            }
            _ => Err(bad("it is neither leaf nor branch")),
        }
    }

    /// The bytes of a page and of those it flows over to.
    fn page(&self, id: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(id).ok()?.checked_mul(self.page_size)?;
        let head = self.bytes.get(start..start.checked_add(HEADER)?)?;
        let pages = usize::try_from(u32_at(head, 12)?).ok()?.checked_add(1)?;
        self.bytes.get(start..start.checked_add(pages.checked_mul(self.page_size)?)?)
    }

    /// Reads the elements of a leaf, which stands on the page `id` or in an element of it.
    fn leaf(&mut self, id: u64, page: &'a [u8], into: &mut Bucket, buckets: usize) -> Result<(), BoltError> {
        let bad = |why| BoltError::Page { page: id, why };
        if buckets > MAX_DEPTH {
            return Err(bad("its buckets nest too deep"));
        }
        for index in 0..usize::from(u16_at(page, 10).ok_or(bad("it ends early"))?) {
            let (flags, key, value) = element(page, index).ok_or(bad("an element of it leads elsewhere"))?;
            if key.is_empty() || key.len() > MAX_KEY {
                return Err(bad("a key of it is empty or too long"));
            }
            let item = match flags {
                0 => Item::Value(self.take(value).ok_or(bad("elements of it overlap"))?),
                IS_BUCKET => Item::Bucket(self.bucket(id, value, buckets + 1)?),
                _ => return Err(bad("an element of it has unknown flags")),
            };
            let key = self.take(key).ok_or(bad("elements of it overlap"))?;
            if into.items.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(bad("its keys are not sorted"));
            }
            into.items.insert(key, item);
        }
        Ok(())
    }

    /// The bucket whose value is `value`, on the page `id`.
    fn bucket(&mut self, id: u64, value: &'a [u8], buckets: usize) -> Result<Bucket, BoltError> {
        let bad = |why| BoltError::Page { page: id, why };
        let (root, sequence) = u64_at(value, 0).zip(u64_at(value, 8)).ok_or(bad("a bucket of it ends early"))?;
        let mut bucket = Bucket { sequence, ..Bucket::default() };
        if root != 0 {
            self.tree(root, &mut bucket, 0, buckets)?;
            return Ok(bucket);
        }
        let page = value.get(BUCKET..).unwrap_or_default();
        match u16_at(page, 8) {
            Some(LEAF_PAGE) => self.leaf(id, page, &mut bucket, buckets)?,
            _ => return Err(bad("a bucket of it has no leaf")),
        }
        Ok(bucket)
    }

    /// A copy of `bytes`, as long as all copies together are no longer than the file.
    fn take(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.left = self.left.checked_sub(bytes.len())?;
        Some(bytes.to_vec())
    }
}

/// Flags, key and value of a leaf's element.
fn element(page: &[u8], index: usize) -> Option<(u32, &[u8], &[u8])> {
    let at = HEADER + index * ELEMENT;
    let number = |offset| usize::try_from(u32_at(page, at + offset)?).ok();
    let key = at.checked_add(number(4)?)?;
    let value = key.checked_add(number(8)?)?;
    Some((u32_at(page, at)?, page.get(key..value)?, page.get(value..value.checked_add(number(12)?)?)?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
