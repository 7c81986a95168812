//! containerd's metadata: its buckets for images and content, as `metadata/buckets.go` of containerd describes them.
//!
//! ```text
//! v1/version                                  varint
//! v1/<namespace>/images/<name>/{createdat, updatedat, target/{digest, mediatype, size}, labels/}
//! v1/<namespace>/content/blob/<digest>/{createdat, updatedat, size, labels/}
//! ```
//!
//! Numbers are Go's signed varints, times what Go's `time.Time` marshals to.

use super::bolt::Bucket;
use super::content::Content;

/// The schema's version that is written where there is none: containerd 1.5 and later read it, 2.x counts it up.
const VERSION: i64 = 3;
/// Versions whose images and content are as above.
const KNOWN: std::ops::RangeInclusive<i64> = 3..=4;
/// The namespace of Kubernetes' containers.
const NAMESPACE: &str = "k8s.io";
/// The label of images that CRI answers for.
const MANAGED: (&str, &str) = ("io.cri-containerd.image", "managed");
/// Seconds from the start of the year 1, which Go counts from, to 1970.
const YEAR_1: u64 = 62_135_596_800;

/// Adds `content` to the metadata in `root`; all of it is from the time `epoch` (seconds since 1970). What is there already
/// stays, but for an image of the same name.
///
/// # Errors
/// Metadata of a schema that is not known.
pub fn add(root: &mut Bucket, content: &Content, epoch: u64) -> Result<(), String> {
    root.edit("v1", |v1| {
        let version = match v1.get("version") {
            Some(bytes) => read_varint(bytes).unwrap_or_default(),
            None => VERSION,
        };
        if !KNOWN.contains(&version) {
            return Err(format!("its containerd's metadata has schema {version}, not {VERSION} or 4"));
        }
        v1.put("version", varint(version));
        v1.edit(NAMESPACE, |ours| {
            ours.edit("images", |images| add_names(images, content, epoch));
            ours.edit("content", |bucket| bucket.edit("blob", |blobs| add_blobs(blobs, content, epoch)));
        });
        Ok(())
    })
}

fn add_names(images: &mut Bucket, content: &Content, epoch: u64) {
    for (name, target) in &content.names {
        images.items.remove(name.as_bytes());
        images.edit(name, |image| {
            stamp(image, epoch);
            image.edit("labels", |labels| labels.put(MANAGED.0, MANAGED.1));
            image.edit("target", |bucket| {
                bucket.put("digest", target.digest.to_string());
                bucket.put("mediatype", target.media_type.as_str());
                bucket.put("size", varint(i64::try_from(target.size).unwrap_or(i64::MAX)));
            });
        });
    }
}

fn add_blobs(blobs: &mut Bucket, content: &Content, epoch: u64) {
    for (digest, blob) in &content.blobs {
        blobs.edit(&digest.to_string(), |bucket| {
            if bucket.get("createdat").is_none() {
                stamp(bucket, epoch);
            }
            bucket.put("size", varint(i64::try_from(blob.size).unwrap_or(i64::MAX)));
            if !blob.labels.is_empty() {
                bucket.edit("labels", |labels| {
                    blob.labels.iter().for_each(|(key, value)| labels.put(key, value.as_str()))
                });
            }
        });
    }
}

fn stamp(bucket: &mut Bucket, epoch: u64) {
    for key in ["createdat", "updatedat"] {
        bucket.put(key, time(epoch));
    }
}

/// A time in UTC as Go marshals it: version 1, seconds since year 1 (`u64`), nanoseconds (`u32`), and -1 for UTC (`i16`), all
/// big-endian.
fn time(epoch: u64) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend(epoch.saturating_add(YEAR_1).to_be_bytes());
    bytes.extend([0, 0, 0, 0, 0xff, 0xff]);
    bytes
}

/// Go's `binary.PutVarint`: zigzag, then seven bits a byte, the lowest first.
fn varint(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// The number that all of `bytes` is.
fn read_varint(bytes: &[u8]) -> Option<i64> {
    let (last, first) = bytes.split_last()?;
    let whole = bytes.len() <= 9 && *last < 0x80 && first.iter().all(|b| *b >= 0x80);
    let zigzag = bytes.iter().rev().fold(0_u64, |sum, b| sum << 7 | u64::from(b & 0x7f));
    whole.then_some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_read_back(number in -(1_i64 << 61)..(1_i64 << 61)) {
            prop_assert_eq!(read_varint(&varint(number)), Some(number));
        }
    }

    #[test]
    fn numbers_and_times_are_as_go_writes_them() {
        assert_eq!((varint(3), varint(748 / 2)), (vec![6], vec![0xec, 5]));
        assert_eq!(read_varint(b"\xff"), None);
        // As containerd 1.6 wrote 2026-11-21T10:31:48Z.
        assert_eq!(time(1_795_257_108)[..9], *b"\x01\x00\x00\x00\x0e\xe2\x93\x6a\x14");
    }

    #[test]
    fn another_schema_is_refused() {
        let mut root = Bucket::default();
        root.edit("v1", |v1| v1.put("version", varint(7)));
        assert!(add(&mut root, &Content::default(), 0).unwrap_err().contains("schema 7"));
        let mut root = Bucket::default();
        add(&mut root, &Content::default(), 0).unwrap();
        assert_eq!(root.get_bucket("v1").unwrap().get("version"), Some(&[6][..]));
    }
}
