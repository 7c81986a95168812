//! Where every byte of a bundle goes, worked out before the first one is written. Pure: no file is touched.

use std::collections::BTreeMap;

use super::index::{Contents, Index, Member};
use super::{BLOBS, BundleError, FORMAT, INDEX_LIMIT, INDEX_PATH};
use crate::base::digest::Digest;
use crate::base::tarfmt::{self, BLOCK, END, MAX, PAGE, TarError};

/// What goes into a bundle.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// The profile's name.
    pub name: String,
    /// The lock's epoch, seconds since 1970.
    pub epoch: u64,
    /// What the lab is made of.
    pub contents: Contents,
    /// Small members from memory (path, bytes), in the order they take.
    pub texts: Vec<(String, Vec<u8>)>,
    /// Every blob with its size in bytes.
    pub blobs: BTreeMap<Digest, u64>,
}

/// A bundle's layout.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The index it will carry.
    pub index: Index,
    /// The index's exact bytes, padding included.
    pub index_bytes: Vec<u8>,
    /// The bundle's identity: digest of `index_bytes`.
    pub identity: Digest,
}

/// Lays a bundle out.
///
/// Offsets are absolute, so they depend on the length of the index, which depends on how many digits they have. We start
/// with one page and try again with what the text turned out to need, until it fits; the length only ever grows.
///
/// # Errors
/// Names, times and sizes the format can not hold; an index larger than readers accept.
pub fn plan(description: &Description) -> Result<Plan, BundleError> {
    let mut index_len = PAGE - BLOCK;
    loop {
        let (members, end) = lay_out(description, Index::start(index_len))?;
        let index = Index {
            contents: description.contents.clone(),
            epoch: description.epoch,
            format: FORMAT,
            members,
            name: description.name.clone(),
            size: end,
        };
        // Readers refuse it.
        if let Some(name) = index.odd_name() {
            return Err(BundleError::Name(name.to_owned()));
        }
        let mut index_bytes = index.to_text();
        let needed = padded_index_len(index_bytes.len() as u64);
        if needed > INDEX_LIMIT {
            return Err(BundleError::IndexTooLarge { size: needed, limit: INDEX_LIMIT });
        }
        if needed <= index_len {
            index_bytes.resize(index_len as usize - 1, b' ');
            index_bytes.push(b'\n');
            let identity = Digest::of(&index_bytes);
            return Ok(Plan { index, index_bytes, identity });
        }
        index_len = needed;
    }
}

impl Plan {
    /// The index's tar header.
    ///
    /// # Errors
    /// An epoch that tar can not hold.
    pub fn index_header(&self) -> Result<Vec<u8>, TarError> {
        index_header(self.index_bytes.len() as u64, self.index.epoch)
    }
}

/// The header of an index of `len` bytes. One block, never an extended header, whatever the length: readers rely on it.
pub(super) fn index_header(len: u64, epoch: u64) -> Result<Vec<u8>, TarError> {
    // A place in the page where the data behind one block would be aligned asks for no padding.
    tarfmt::headers(INDEX_PATH, len, epoch, PAGE - BLOCK)
}

/// The length of an index of `text` bytes with its padding: a line feed at least, and with the header a multiple of a page.
fn padded_index_len(text: u64) -> u64 {
    (text + 1 + BLOCK).next_multiple_of(PAGE) - BLOCK
}

/// Members in file order with absolute offsets from `start` on, and the length of the file.
fn lay_out(description: &Description, start: u64) -> Result<(Vec<Member>, u64), TarError> {
    let texts = description.texts.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64, Digest::of(bytes)));
    let blobs = description.blobs.iter().map(|(digest, size)| (format!("{BLOBS}{}", digest.hex()), *size, *digest));
    let mut members = Vec::with_capacity(description.texts.len() + description.blobs.len());
    let mut at = start;
    for (path, size, digest) in texts.chain(blobs) {
        // Made to be thrown away: this is where a name or time that tar can not hold is found, before anything is written.
        tarfmt::headers(&path, size, description.epoch, at)?;
        let offset = at + tarfmt::headers_len(size, at);
        let end = tarfmt::padded(size).and_then(|size| offset.checked_add(size)).filter(|end| *end <= MAX - 2 * PAGE);
        at = end.ok_or_else(|| TarError::TooLarge(path.clone()))?;
        members.push(Member { digest, offset, path, size });
    }
    Ok((members, at + END))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::bundle::{LOCK_PATH, OCI_INDEX_PATH, OCI_LAYOUT_PATH, PROFILE_PATH};
    use proptest::prelude::*;

    fn description(sizes: &[u64]) -> Description {
        let texts = [OCI_LAYOUT_PATH, OCI_INDEX_PATH, PROFILE_PATH, LOCK_PATH];
        Description {
            name: "lab".into(),
            epoch: 1_700_000_000,
            texts: texts.iter().map(|t| ((*t).to_owned(), t.as_bytes().to_vec())).collect(),
            blobs: sizes.iter().enumerate().map(|(i, s)| (Digest::of(&i.to_le_bytes()), *s)).collect(),
            ..Description::default()
        }
    }

    #[test]
    fn nine_gigabytes_are_planned() {
        let plan = plan(&description(&[9 << 30, 5, 9 << 30, 70_000])).unwrap();
        plan.index.validate(plan.index_bytes.len() as u64).unwrap();
        assert!(plan.index.size > 18 << 30);
        assert!(plan.index.members.iter().filter(|m| m.size >= 65_536).all(|m| m.offset % 4096 == 0));
    }

    #[test]
    fn sums_beyond_2_63_are_refused() {
        for sizes in [&[1 << 62, 1 << 62, 1 << 62][..], &[u64::MAX], &[1 << 63], &[(1 << 63) - 1], &[1 << 62, 1 << 62]]
        {
            let error = plan(&description(sizes)).unwrap_err();
            assert!(error.to_string().contains("2^63"), "{error}");
        }
    }

    #[test]
    fn names_and_times_are_checked_before_writing() {
        let mut odd = description(&[]);
        odd.texts.push(("x".repeat(101), Vec::new()));
        assert!(matches!(plan(&odd), Err(BundleError::Tar(TarError::Path(_)))));
        let mut hidden = description(&[]);
        hidden.name = "a\u{202e}b".into();
        assert!(matches!(plan(&hidden), Err(BundleError::Name(_))));
        let late = Description { epoch: 1 << 40, ..description(&[1]) };
        assert!(matches!(plan(&late), Err(BundleError::Tar(TarError::Time(_)))));
    }

    #[test]
    fn the_index_is_padded_to_a_page_whatever_its_length() {
        for count in [0, 1, 20, 21, 22, 23, 500] {
            let plan = plan(&description(&vec![100_000; count])).unwrap();
            assert_eq!((plan.index_bytes.len() + 512) % 4096, 0);
            assert_eq!(plan.index_bytes.last(), Some(&b'\n'));
            assert_eq!(plan.index_header().unwrap().len(), 512);
            let read: Index = serde_json::from_slice(&plan.index_bytes).unwrap();
            assert_eq!(read, plan.index);
        }
    }

    proptest! {
        #[test]
        fn every_plan_is_a_valid_index(sizes in prop::collection::vec(prop_oneof![0..300_000u64, 0..1u64 << 40], 0..60)) {
            let plan = plan(&description(&sizes)).unwrap();
            prop_assert!(plan.index.validate(plan.index_bytes.len() as u64).is_ok());
            let mut at = Index::start(plan.index_bytes.len() as u64);
            for member in &plan.index.members {
                let headers = tarfmt::headers(&member.path, member.size, plan.index.epoch, at).unwrap();
                prop_assert_eq!(at + headers.len() as u64, member.offset);
                at = member.offset + tarfmt::padded(member.size).unwrap();
            }
            prop_assert_eq!(at + END, plan.index.size);
        }
    }
}
