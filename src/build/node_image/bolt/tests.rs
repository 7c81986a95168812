//! What is written reads back; what containerd wrote reads, and comes back the same; nothing brings the reader down.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

fn value(size: usize) -> impl Strategy<Value = Item> {
    vec(any::<u8>(), 0..size).prop_map(Item::Value)
}

fn bucket() -> impl Strategy<Value = Bucket> {
    let key = || vec(any::<u8>(), 1..60);
    let flat =
        (any::<u64>(), btree_map(key(), value(300), 0..40)).prop_map(|(sequence, items)| Bucket { sequence, items });
    flat.prop_recursive(4, 200, 12, move |inner| {
        let item = prop_oneof![3 => value(6000), 2 => inner.prop_map(Item::Bucket)];
        (any::<u64>(), btree_map(key(), item, 0..12)).prop_map(|(sequence, items)| Bucket { sequence, items })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_database_reads_as_it_was_written(bucket in bucket()) {
        let bytes = write(&bucket).unwrap();
        prop_assert_eq!(bytes.len() % 4096, 0);
        prop_assert_eq!(&read(&bytes).unwrap(), &bucket);
        prop_assert_eq!(write(&bucket).unwrap(), bytes);
    }

    #[test]
    fn damage_is_an_error_or_another_database(bucket in bucket(), hits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()) {
        let mut bytes = write(&bucket).unwrap();
        let _ = read(&bytes[..cut.index(bytes.len())]);
        for (at, byte) in hits {
            // The meta pages have a checksum: behind them is what damage gets through to.
            let at = 2 * 4096 + at.index(bytes.len() - 2 * 4096);
            bytes[at] = byte;
        }
        let _ = read(&bytes);
    }

    #[test]
    fn no_bytes_bring_the_reader_down(bytes in vec(any::<u8>(), 0..10_000)) {
        prop_assert!(read(&bytes).is_err());
    }
}

#[test]
fn many_keys_take_branches() {
    let mut root = Bucket::default();
    root.edit("b", |b| (0..20_000).for_each(|n| b.put(&format!("key {n:06}"), vec![7; n % 50])));
    let bytes = write(&root).unwrap();
    assert_eq!(read(&bytes).unwrap(), root);
    assert_eq!(root.get_bucket("b").unwrap().get("key 000003"), Some(&[7, 7, 7][..]));
}

#[test]
fn the_newer_valid_meta_page_counts() {
    let mut root = Bucket::default();
    root.put("a", "1");
    let mut bytes = write(&root).unwrap();
    bytes[HEADER + 20] ^= 1;
    assert_eq!(read(&bytes).unwrap(), root, "the second one is whole");
    bytes[4096 + HEADER + 20] ^= 1;
    assert_eq!(read(&bytes), Err(BoltError::NotOne("it has no valid meta page")));
}

#[test]
fn trees_that_turn_back_end() {
    let mut root = Bucket::default();
    root.edit("inner", |b| b.put("x", vec![1; 2000]));
    let mut bytes = write(&root).unwrap();
    // Page 3 is the inner bucket's leaf, page 4 the root's; the inner bucket's root becomes page 4.
    let at = 4 * 4096 + HEADER + ELEMENT + "inner".len();
    assert_eq!(bytes[at], 3);
    bytes[at] = 4;
    assert_eq!(read(&bytes), Err(BoltError::Page { page: 4, why: "two things stand on it" }));
}

#[test]
fn what_has_no_place_is_refused() {
    let mut root = Bucket::default();
    root.items.insert(Vec::new(), Item::Value(Vec::new()));
    assert!(matches!(write(&root), Err(BoltError::Write(_))));
    let mut deep = Bucket::default();
    for _ in 0..40 {
        let inner = std::mem::take(&mut deep);
        deep.items.insert(b"b".to_vec(), Item::Bucket(inner));
    }
    assert!(matches!(write(&deep), Err(BoltError::Write(_))));
}

/// Written by containerd 1.6 (bbolt 1.3) after two `ctr images import` of one small image.
const REAL: &[u8] = include_bytes!("../../../../tests/fixtures/containerd/meta.db.zst");

#[test]
fn what_containerd_wrote_reads_and_comes_back() {
    let bytes = zstd::decode_all(REAL).unwrap();
    let root = read(&bytes).unwrap();
    let v1 = root.get_bucket("v1").unwrap();
    assert_eq!(v1.get("version"), Some(&[6][..]));
    let k8s = v1.get_bucket("k8s.io").unwrap();
    let image = k8s.get_bucket("images").unwrap().get_bucket("labimg.lab/labimg:0.1.0").unwrap();
    let digest = image.get_bucket("target").unwrap().get("digest").unwrap().to_vec();
    let blobs = k8s.get_bucket("content").unwrap().get_bucket("blob").unwrap();
    let manifest = blobs.get_bucket(std::str::from_utf8(&digest).unwrap()).unwrap();
    assert_eq!(manifest.get_bucket("labels").unwrap().items.len(), 2);
    assert!(k8s.get_bucket("leases").unwrap().items.is_empty());
    assert_eq!(read(&write(&root).unwrap()).unwrap(), root);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_to_a_real_one_ends_the_reader_well(hits in vec((0..65_536_usize, any::<u8>()), 1..6)) {
        let mut bytes = zstd::decode_all(REAL).unwrap();
        for (at, byte) in hits {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let _ = read(&bytes);
    }
}
