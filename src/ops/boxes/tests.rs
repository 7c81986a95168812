//! A folder of a lab with things in it that no build left there.

use super::*;
use fs_err::os::unix::fs::symlink;

use crate::model::platform::Platform;
use crate::model::profile::{Provider, parse};

const PROFILE: &str = r#"
    schema = 1
    name = "x"
    summary = "x"
    [debian.bookworm]
    [debian.trixie]
    [toolchain]
    debian = "trixie"
    packages = []
    [[box]]
    name = "quick"
    debian = "bookworm"
    [[host]]
    name = "quick"
    reach = "vagrant"
    box = "quick"
"#;

fn profile() -> Profile {
    parse("x.toml", PROFILE, &mut |_| Err("none".to_owned())).unwrap().profile
}

fn made(name: &str) -> MadeBox {
    let (platform, provider) = (Platform::LinuxAmd64, Provider::Libvirt);
    MadeBox { name: name.to_owned(), platform, provider, digest: Digest::of(name.as_bytes()), size: 4 }
}

#[test]
fn what_a_person_put_beside_the_boxes_stays() {
    let temp = tempfile::tempdir().unwrap();
    let dir = OwnDir::make(temp.path()).unwrap();
    let old = made("old");
    for (name, text) in [
        // An earlier build's.
        (old.file_name(), "box!".to_owned()),
        (mark_of(&old.file_name()), mark(&old)),
        ("old-amd64.json".to_owned(), r#"{"name": "x/old-amd64", "versions": []}"#.to_owned()),
        (".box-12-0".to_owned(), "half".to_owned()),
        (".box-Ab12Cd".to_owned(), "half".to_owned()),
        // A person's.
        ("package.json".to_owned(), "{}".to_owned()),
        ("mine-amd64.json".to_owned(), r#"{"name": "y/mine-amd64", "versions": []}"#.to_owned()),
        ("backup.box".to_owned(), "x".to_owned()),
        ("other.box".to_owned(), "x".to_owned()),
        ("other.box.sha256".to_owned(), "checked by hand".to_owned()),
        ("notes.sha256".to_owned(), mark(&old)),
        (".box-of letters".to_owned(), "x".to_owned()),
    ] {
        fs_err::write(temp.path().join(name), text).unwrap();
    }
    symlink("/etc/passwd", temp.path().join("link.box")).unwrap();
    fs_err::create_dir(temp.path().join("folder.box")).unwrap();
    remove_others(&dir, "x", &[], &BTreeMap::new()).unwrap();
    let kept = [
        ".box-of letters",
        "backup.box",
        "folder.box",
        "link.box",
        "mine-amd64.json",
        "notes.sha256",
        "other.box",
        "other.box.sha256",
        "package.json",
    ];
    assert_eq!(dir.names().unwrap(), kept);
}

#[test]
fn a_link_in_the_place_of_the_folder_or_of_its_boxes_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, victim) = (temp.path().join("x"), temp.path().join("victim"));
    fs_err::create_dir_all(&victim).unwrap();
    let check = |dir: &Path| require_ours(OwnDir::open(dir), dir, &profile(), "").map_err(|e| e.to_string());
    symlink(&victim, &dir).unwrap();
    let error = check(&dir).unwrap_err();
    assert!(error.contains("x` is a link to"), "{error}");
    fs_err::remove_file(&dir).unwrap();
    fs_err::create_dir(&dir).unwrap();
    symlink(&victim, dir.join(BOXES)).unwrap();
    let error = check(&dir).unwrap_err();
    assert!(error.contains("x/boxes` is a link to"), "{error}");
    // With all that says that the folder is the lab's, too.
    fs_err::write(dir.join("Vagrantfile"), VAGRANTFILE).unwrap();
    fs_err::write(dir.join(LAB_FILE), r#"{"name": "x"}"#).unwrap();
    assert!(check(&dir).unwrap_err().contains("x/boxes` is a link to"));
    fs_err::remove_file(dir.join(BOXES)).unwrap();
    assert_eq!(check(&dir), Ok(()));
    // Those that say so are files of the folder's own.
    fs_err::rename(dir.join(LAB_FILE), victim.join(LAB_FILE)).unwrap();
    symlink(victim.join(LAB_FILE), dir.join(LAB_FILE)).unwrap();
    let error = check(&dir).unwrap_err();
    assert!(error.contains("it holds `lab.json`"), "{error}");
}

#[test]
fn a_box_is_copied_over_a_link_and_not_through_it() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(&temp.path().join("store"), crate::store::Access::Shared).unwrap();
    let one = MadeBox { digest: store.put(b"box!").unwrap(), ..made("quick") };
    let victim = temp.path().join("victim");
    fs_err::write(&victim, "victim").unwrap();
    let dir = OwnDir::make(&temp.path().join("boxes")).unwrap();
    for name in [one.file_name(), mark_of(&one.file_name())] {
        symlink(&victim, dir.path().join(name)).unwrap();
    }
    place(&store, &one, &dir).unwrap();
    assert_eq!(fs_err::read(&victim).unwrap(), b"victim");
    assert_eq!(dir.read(&one.file_name(), 9).unwrap().unwrap(), b"box!");
    assert_eq!(text_in(&dir, &mark_of(&one.file_name())), Some(mark(&one)));
    assert_eq!(dir.names().unwrap().len(), 2);
}
