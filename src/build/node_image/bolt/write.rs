//! Writing a database: pages in the order of a walk over the maps, each filled up before the next one, nothing free. Pages 0
//! and 1 are the meta pages, page 2 the (empty) list of free pages, as in a database that was just made.

use super::{
    BRANCH_PAGE, BUCKET, BoltError, Bucket, ELEMENT, FREE_PAGE, HEADER, IS_BUCKET, Item, LEAF_PAGE, MAGIC, MAX_DEPTH,
    MAX_KEY, META, META_PAGE, VERSION, fnv64a,
};

/// Page size of what is written, whatever the machine's.
const PAGE: usize = 4096;
/// Buckets whose page is no larger stand inside their parent (bbolt, `maxInlineBucketSize`).
const INLINE: usize = PAGE / 4;
/// The page of the list of free pages.
const FREELIST: u64 = 2;

/// The database whose root bucket is `root`. Equal buckets give equal bytes.
///
/// # Errors
/// Keys that are empty or too long, buckets nested too deep, sizes beyond 32 bits.
pub fn write(root: &Bucket) -> Result<Vec<u8>, BoltError> {
    let mut out = vec![0; 3 * PAGE];
    put_header(&mut out, FREELIST, FREE_PAGE, 0, 0);
    let top = tree(&mut out, root, 0)?;
    let pages = (out.len() / PAGE) as u64;
    for id in [0, 1] {
        put_header(&mut out, id, META_PAGE, 0, 0);
        let mut body = Vec::with_capacity(META + 8);
        for word in [MAGIC, VERSION, PAGE as u32, 0] {
            body.extend(word.to_le_bytes());
        }
        // Root page and sequence, the free list, the first page that is not there, the transaction.
        for word in [top, root.sequence, FREELIST, pages, id] {
            body.extend(word.to_le_bytes());
        }
        body.extend(fnv64a(&body).to_le_bytes());
        let at = id as usize * PAGE + HEADER;
        out[at..at + body.len()].copy_from_slice(&body);
    }
    Ok(out)
}

/// An element of a leaf page.
struct Leaf<'a> {
    flags: u32,
    key: &'a [u8],
    value: Vec<u8>,
}

/// Writes the pages of a bucket, those inside it first; gives the page of its root.
fn tree(out: &mut Vec<u8>, bucket: &Bucket, depth: usize) -> Result<u64, BoltError> {
    let leaves = leaves(out, bucket, depth)?;
    // The first key on each page, and the page.
    let mut level: Vec<(&[u8], u64)> = Vec::new();
    for page in parts(&leaves, |leaf| leaf.key.len() + leaf.value.len()) {
        level.push((
            page.first().map_or(&[][..], |leaf| leaf.key),
            put_page(out, LEAF_PAGE, &leaf_page(page)?, page.len())?,
        ));
    }
    while level.len() > 1 {
        let mut above = Vec::new();
        for page in parts(&level, |(key, _)| key.len()) {
            above.push((
                page.first().map_or(&[][..], |(key, _)| *key),
                put_page(out, BRANCH_PAGE, &branch_page(page), page.len())?,
            ));
        }
        level = above;
    }
    level.first().map(|(_, id)| *id).ok_or(BoltError::Write("a bucket without a page"))
}

/// The elements of a bucket. Buckets inside it that need pages have them afterwards.
fn leaves<'a>(out: &mut Vec<u8>, bucket: &'a Bucket, depth: usize) -> Result<Vec<Leaf<'a>>, BoltError> {
    if depth > MAX_DEPTH {
        return Err(BoltError::Write("buckets nest too deep"));
    }
    let mut leaves = Vec::with_capacity(bucket.items.len());
    for (key, item) in &bucket.items {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(BoltError::Write("a key is empty or too long"));
        }
        let (flags, value) = match item {
            Item::Value(value) => (0, value.clone()),
            Item::Bucket(inner) => (IS_BUCKET, bucket_value(out, inner, depth + 1)?),
        };
        leaves.push(Leaf { flags, key, value });
    }
    Ok(leaves)
}

/// The value of a bucket's element: its root page's number and its sequence; small ones are wholly in it.
fn bucket_value(out: &mut Vec<u8>, bucket: &Bucket, depth: usize) -> Result<Vec<u8>, BoltError> {
    let only_values = bucket.items.values().all(|item| matches!(item, Item::Value(_)));
    if only_values {
        let leaves = leaves(out, bucket, depth)?;
        let page = leaf_page(&leaves)?;
        if HEADER + page.len() <= INLINE {
            let mut value = Vec::with_capacity(BUCKET + HEADER + page.len());
            value.extend(0_u64.to_le_bytes());
            value.extend(bucket.sequence.to_le_bytes());
            value.extend(header(0, LEAF_PAGE, leaves.len() as u16, 0));
            value.extend(page);
            return Ok(value);
        }
    }
    let root = tree(out, bucket, depth)?;
    Ok([root.to_le_bytes(), bucket.sequence.to_le_bytes()].concat())
}

/// Parts `items` so that each part fits on a page with its elements, where `size` is what an item takes besides; an item
/// that is larger stands alone. Without items: one empty part.
fn parts<T>(items: &[T], size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut parts = Vec::new();
    let (mut start, mut used) = (0, HEADER);
    for (at, item) in items.iter().enumerate() {
        let needs = ELEMENT + size(item);
        if at > start && used + needs > PAGE {
            parts.push(&items[start..at]);
            (start, used) = (at, HEADER);
        }
        used += needs;
    }
    parts.push(&items[start..]);
    parts
}

/// What stands behind the header of a leaf page: elements, then keys and values.
fn leaf_page(leaves: &[Leaf<'_>]) -> Result<Vec<u8>, BoltError> {
    let too_large = |_| BoltError::Write("a page beyond 32 bits");
    let (mut elements, mut data) = (Vec::with_capacity(leaves.len() * ELEMENT), Vec::new());
    for (index, leaf) in leaves.iter().enumerate() {
        let position = (leaves.len() - index) * ELEMENT + data.len();
        elements.extend(leaf.flags.to_le_bytes());
        for size in [position, leaf.key.len(), leaf.value.len()] {
            elements.extend(u32::try_from(size).map_err(too_large)?.to_le_bytes());
        }
        data.extend_from_slice(leaf.key);
        data.extend_from_slice(&leaf.value);
    }
    elements.extend(data);
    Ok(elements)
}

/// The same for a branch page. Keys are short, so all fits in 32 bits.
fn branch_page(children: &[(&[u8], u64)]) -> Vec<u8> {
    let (mut elements, mut data) = (Vec::with_capacity(children.len() * ELEMENT), Vec::new());
    for (index, (key, page)) in children.iter().enumerate() {
        let position = (children.len() - index) * ELEMENT + data.len();
        elements.extend((position as u32).to_le_bytes());
        elements.extend((key.len() as u32).to_le_bytes());
        elements.extend(page.to_le_bytes());
        data.extend_from_slice(key);
    }
    elements.extend(data);
    elements
}

/// Appends a page, with as many behind it as it flows over to; gives its number.
fn put_page(out: &mut Vec<u8>, flags: u16, content: &[u8], count: usize) -> Result<u64, BoltError> {
    let id = (out.len() / PAGE) as u64;
    let pages = (HEADER + content.len()).div_ceil(PAGE).max(1);
    let overflow = u32::try_from(pages - 1).map_err(|_| BoltError::Write("a page beyond 32 bits"))?;
    let count = u16::try_from(count).map_err(|_| BoltError::Write("too many elements on a page"))?;
    out.resize(out.len() + pages * PAGE, 0);
    put_header(out, id, flags, count, overflow);
    let at = id as usize * PAGE + HEADER;
    out[at..at + content.len()].copy_from_slice(content);
    Ok(id)
}

fn put_header(out: &mut [u8], id: u64, flags: u16, count: u16, overflow: u32) {
    let at = id as usize * PAGE;
    out[at..at + HEADER].copy_from_slice(&header(id, flags, count, overflow));
}

fn header(id: u64, flags: u16, count: u16, overflow: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&id.to_le_bytes());
    header[8..10].copy_from_slice(&flags.to_le_bytes());
    header[10..12].copy_from_slice(&count.to_le_bytes());
    header[12..].copy_from_slice(&overflow.to_le_bytes());
    header
}
