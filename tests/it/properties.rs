//! What holds for every lock and every image reference.

use std::collections::BTreeMap;

use labimg::base::digest::Digest;
use labimg::model::image::ImageRef;
use labimg::model::lock::{
    FileKind, Lock, LockedChart, LockedFile, LockedImage, LockedLocal, LockedManifest, LockedMember, diff, wire,
};
use labimg::model::platform::Platform;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

fn reference() -> impl Strategy<Value = String> {
    let registry =
        prop_oneof![Just(""), Just("quay.io/"), Just("localhost/"), Just("127.0.0.1:5000/"), Just("index.docker.io/")];
    // A dot in the first part would make it a registry's host.
    let repository = "[a-z0-9]([a-z0-9_-]{0,5}[a-z0-9])?(/[a-z0-9]([a-z0-9._-]{0,5}[a-z0-9])?){0,2}";
    let tag = option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}");
    (registry, repository, tag, option::of(any::<u32>())).prop_map(|(registry, repository, tag, pinned)| {
        let tag = tag.map(|t| format!(":{t}")).unwrap_or_default();
        let pinned = pinned.map(|n| format!("@{}", digest(n))).unwrap_or_default();
        format!("{registry}{repository}{tag}{pinned}")
    })
}

fn digest(n: u32) -> Digest {
    Digest::of(&n.to_le_bytes())
}

fn size() -> impl Strategy<Value = u64> {
    0..=i64::MAX as u64
}

/// Text with everything TOML must escape.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9.-]{1,12}", "[ -~\\t\\n\"'\\\\äß日]{1,8}"]
}

fn image() -> impl Strategy<Value = LockedImage> {
    let platform = prop_oneof![Just(Platform::LinuxAmd64), Just(Platform::LinuxArm64)];
    let manifest = (any::<u32>(), size()).prop_map(|(n, size)| LockedManifest {
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        digest: digest(n),
        size,
    });
    let names = (reference(), option::of(reference()));
    (names, any::<u32>(), size(), btree_map(platform, manifest, 1..=2)).prop_map(
        |((name, source), n, size, platforms)| LockedImage {
            reference: name.parse().unwrap(),
            source: source.map(|s| s.parse().unwrap()),
            media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
            digest: digest(n),
            size,
            platforms,
        },
    )
}

fn chart() -> impl Strategy<Value = LockedChart> {
    (text(), text(), text(), any::<u32>(), size(), vec(text(), 0..3)).prop_map(
        |(name, chart, version, n, size, dependencies)| LockedChart {
            name,
            chart,
            repo: "oci://ghcr.io/charts".to_owned(),
            version,
            url: format!("oci://ghcr.io/charts/x:{n}"),
            digest: digest(n),
            size,
            dependencies,
        },
    )
}

fn file() -> impl Strategy<Value = LockedFile> {
    let kind = prop_oneof![Just(FileKind::File), Just(FileKind::Manifest), Just(FileKind::Tool)];
    let platform = option::of(proptest::sample::select(Platform::ALL.to_vec()));
    let member = option::of((text(), any::<u32>(), size()));
    (kind, text(), platform, option::of(text()), any::<u32>(), size(), member).prop_map(
        |(kind, name, platform, version, n, size, member)| LockedFile {
            kind,
            name,
            platform,
            version,
            url: format!("https://example.org/{n}"),
            digest: digest(n),
            size,
            member: member.map(|(path, n, size)| LockedMember { path, digest: digest(n), size }),
        },
    )
}

/// Locks as they may be made: in any order, but every input once.
fn lock() -> impl Strategy<Value = Lock> {
    let local =
        (text(), any::<u32>(), size()).prop_map(|(path, n, size)| LockedLocal { path, digest: digest(n), size });
    let lists = (vec(image(), 0..4), vec(chart(), 0..3), vec(file(), 0..4), vec(local, 0..3));
    (text(), 0..=i64::MAX as u64, lists).prop_map(|(name, epoch, (images, charts, files, locals))| Lock {
        name,
        epoch,
        images: once(images, |i| i.reference.to_string()),
        charts: once(charts, |c| c.name.clone()),
        files: once(files, |f| format!("{:?} {} {:?}", f.kind, f.name, f.platform)),
        locals: once(locals, |l| l.path.clone()),
        ..Default::default()
    })
}

fn once<T>(list: Vec<T>, key: impl Fn(&T) -> String) -> Vec<T> {
    list.into_iter().map(|item| (key(&item), item)).collect::<BTreeMap<_, _>>().into_values().rev().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_lock_reads_as_it_was_written(lock in lock()) {
        let text = wire::to_text(&lock).unwrap();
        let again = wire::parse(&text).unwrap();
        let mut sorted = lock.clone();
        sorted.sort();
        prop_assert_eq!(&again, &sorted);
        prop_assert_eq!(wire::to_text(&again).unwrap(), text);
        prop_assert_eq!(diff(&lock, &again), vec![]);
    }

    #[test]
    fn no_text_brings_the_reader_of_locks_down(text in "\\PC{0,60}", cut in 0_usize..400, lock in lock()) {
        let _ = wire::parse(&text);
        let good = wire::to_text(&lock).unwrap();
        let short: String = good.chars().take(cut).collect();
        let _ = wire::parse(&short);
        let _ = wire::parse(&format!("{short}{text}"));
    }

    #[test]
    fn an_image_reference_reads_as_it_was_written(text in reference()) {
        let first: ImageRef = text.parse().unwrap();
        let full = first.to_string();
        prop_assert_eq!(full.parse::<ImageRef>().unwrap(), first.clone());
        prop_assert!(first.tag.is_some() || first.digest.is_some());
        prop_assert!(!full.contains("index.docker.io"));
        prop_assert_eq!(first.tagged().parse::<ImageRef>().unwrap().name(), first.name());
    }

    #[test]
    fn whatever_is_taken_for_a_reference_reads_as_it_was_written(text in "[A-Za-z0-9._:/@-]{0,24}") {
        if let Ok(first) = text.parse::<ImageRef>() {
            prop_assert_eq!(first.to_string().parse::<ImageRef>().unwrap(), first);
        }
    }

    #[test]
    fn no_text_brings_the_reader_of_profiles_down(text in "\\PC{0,80}", cut in 0_usize..600) {
        let mut none = |_: &str| Err("no imports here".to_owned());
        let _ = labimg::model::profile::parse("x.toml", &text, &mut none).map_err(|e| e.to_string());
        let short: String = crate::support::Upstream::LAB.chars().take(cut).collect();
        let _ = labimg::model::profile::parse("x.toml", &format!("{short}{text}"), &mut none).map_err(|e| e.to_string());
    }
}
