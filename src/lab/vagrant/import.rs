//! Boxes into Vagrant's home, as `vagrant box add` would leave them, but without its copies: it copies a box beside itself,
//! unpacks it, and throws the copy away. Here members are taken out of the box in place, and where the file system can share
//! extents, no byte moves.
//!
//! Layout (Vagrant 2.3, `lib/vagrant/box_collection.rb`): `boxes/<name, "/" as "-VAGRANTSLASH-">/<version>/<provider>/`, and
//! beside the versions `metadata_url`. Vagrant 2.4 reads it, too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::unpack;
use crate::base::digest::Digest;
use crate::base::flock;
use crate::base::own_dir::OwnDir;
use crate::base::report::Reporter;
use crate::lab::error::LabError;

/// Held while a box is unpacked, in Vagrant's own folder for such things.
const LOCK: &str = "labimg-box.lock";
/// What is being unpacked, there.
const UNPACKED: &str = "labimg-box";
/// How long another import is waited for.
const PATIENCE: Duration = Duration::from_secs(3600);
/// What Vagrant writes for a slash in a box's name, and on Windows for a colon (`lib/vagrant/box_collection.rb`).
const SLASH: &str = "-VAGRANTSLASH-";
const COLON: &str = "-VAGRANTCOLON-";

/// A box to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Vagrant's name: `lab/box`.
    pub name: String,
    /// Version.
    pub version: String,
    /// Provider: `libvirt`, `virtualbox`.
    pub provider: String,
    /// The file that holds the box: itself, or a bundle.
    pub file: PathBuf,
    /// Where in it the box stands, from and how many bytes; all of the file where not given.
    pub part: Option<(u64, u64)>,
    /// What its bytes must be.
    pub digest: Digest,
}

/// A box in Vagrant's home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Imported {
    /// Vagrant's name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Provider.
    pub provider: String,
    /// Where it is.
    pub directory: PathBuf,
    /// It was there already.
    pub unchanged: bool,
}

/// Whether a text out of somebody's file is the name of one file or folder, and leads nowhere else.
pub fn is_plain(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\\']) && !name.contains(char::is_control)
}

/// Puts a box into Vagrant's home. `catalog` is the URL Vagrant shows as its origin.
///
/// # Errors
/// A name, version or provider that leads out of that home, a box whose bytes are not what its catalog says, that is no plain
/// archive of files, or does not fit on the disk. Nothing is left then.
pub fn import(
    wanted: &Wanted,
    home: &Path,
    catalog: Option<&str>,
    reporter: &dyn Reporter,
) -> Result<Imported, LabError> {
    within(wanted)?;
    let of_name = home.join("boxes").join(folder_of(&wanted.name));
    let directory = of_name.join(&wanted.version).join(&wanted.provider);
    let done = |unchanged| Imported {
        name: wanted.name.clone(),
        version: wanted.version.clone(),
        provider: wanted.provider.clone(),
        directory: directory.clone(),
        unchanged,
    };
    // A version says the content: what stands there under it is the same.
    let there = || directory.join("metadata.json").is_file();
    if there() {
        return Ok(done(true));
    }
    // Vagrant takes every folder below a version for a provider's: what is not whole yet stands elsewhere, under a name that
    // the next import knows.
    // Both may be links of the person whose home it is; what stands in them is Vagrant's and ours, and no link.
    let temporary = OwnDir::make_named(&home.join("tmp"))?;
    let lock = flock::lock(&temporary.path().join(LOCK), flock::Mode::Exclusive, PATIENCE);
    let _lock = lock.map_err(|e| LabError::failed("Vagrant's home can not be written to", e))?;
    if there() {
        return Ok(done(true));
    }
    temporary.remove_all(UNPACKED)?;
    let placed = unpacked(wanted, &temporary, reporter).and_then(|()| {
        let of_name = OwnDir::make_named(&home.join("boxes"))?.make_sub(&folder_of(&wanted.name))?;
        if let Some(url) = catalog {
            of_name.write("metadata_url", url.as_bytes())?;
        }
        let of_version = of_name.make_sub(&wanted.version)?;
        Ok(temporary.rename(UNPACKED, &of_version, &wanted.provider)?)
    });
    if placed.is_err() {
        // That it can not be taken away is the next import's business.
        let _ = temporary.remove_all(UNPACKED);
    }
    placed.map(|()| done(false))
}

/// The folder of a box's name, as Vagrant calls it.
fn folder_of(name: &str) -> String {
    name.replace('/', SLASH)
}

/// Whether Vagrant reads a name back out of its folder: another one would stand in the folder of somebody else's box.
fn comes_back(name: &str) -> bool {
    folder_of(name).replace(COLON, ":").replace(SLASH, "/") == name
}

/// Takes the box apart into a new folder in `temporary`.
fn unpacked(wanted: &Wanted, temporary: &OwnDir, reporter: &dyn Reporter) -> Result<(), LabError> {
    let dir = temporary.make_sub(UNPACKED)?;
    unpack::unpack(wanted, &dir, reporter)?;
    Ok(dir.set_mode(0o755)?)
}

/// That what a catalog says names folders of Vagrant's home: it may be anybody's.
fn within(wanted: &Wanted) -> Result<(), LabError> {
    let names = [
        ("name", &wanted.name, wanted.name.split('/').all(is_plain) && comes_back(&wanted.name)),
        ("version", &wanted.version, is_plain(&wanted.version)),
        ("provider", &wanted.provider, is_plain(&wanted.provider)),
    ];
    match names.into_iter().find(|(.., fits)| !fits) {
        None => Ok(()),
        Some((what, text, _)) => {
            let why = format!("its catalog gives it the {what} {text:?}, which is no name of a folder");
            Err(LabError::mismatch("the box can not be imported", why)
                .hint("labimg did not write that catalog so: build the lab again, or import from its bundle"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::report::Silent;

    fn a_box(dir: &Path, name: &str) -> Wanted {
        let file = dir.join("x.box");
        let mut tar = tar::Builder::new(fs_err::File::create(&file).unwrap());
        for (name, text) in [("Vagrantfile", "v"), ("metadata.json", "{}"), (name, "disk")] {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_mode(0o644);
            header.set_cksum();
            tar.append(&header, text.as_bytes()).unwrap();
        }
        tar.finish().unwrap();
        let digest = Digest::of(&fs_err::read(&file).unwrap());
        Wanted {
            name: "lab/x".to_owned(),
            version: "1.2.3".to_owned(),
            provider: "libvirt".to_owned(),
            file,
            part: None,
            digest,
        }
    }

    #[test]
    fn a_box_stands_where_vagrant_looks() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = a_box(dir.path(), "box.img");
        let home = dir.path().join("home");
        let done = import(&wanted, &home, Some("file:///x.json"), &Silent).unwrap();
        assert_eq!(done.directory, home.join("boxes/lab-VAGRANTSLASH-x/1.2.3/libvirt"));
        assert_eq!(fs_err::read(done.directory.join("box.img")).unwrap(), b"disk");
        assert_eq!(fs_err::read(home.join("boxes/lab-VAGRANTSLASH-x/metadata_url")).unwrap(), b"file:///x.json");
        assert!(import(&wanted, &home, None, &Silent).unwrap().unchanged);
    }

    #[test]
    fn a_box_in_the_middle_of_a_file_is_the_same_box() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = a_box(dir.path(), "box.img");
        let bytes = fs_err::read(&wanted.file).unwrap();
        let whole = [&[7; 1536][..], &bytes, &[7; 700]].concat();
        fs_err::write(&wanted.file, whole).unwrap();
        let inside = Wanted { part: Some((1536, bytes.len() as u64)), ..wanted };
        let done = import(&inside, &dir.path().join("home"), None, &Silent).unwrap();
        assert_eq!(fs_err::read(done.directory.join("box.img")).unwrap(), b"disk");
        let beside = Wanted { part: Some((1024, bytes.len() as u64)), version: "2".to_owned(), ..inside };
        let error = import(&beside, &dir.path().join("home"), None, &Silent).unwrap_err();
        assert!(error.to_string().contains("its catalog says"), "{error}");
    }

    #[test]
    fn a_name_that_leads_out_of_the_home_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let good = a_box(dir.path(), "box.img");
        let home = dir.path().join("home");
        let outside = dir.path().join("outside").display().to_string();
        for evil in ["", ".", "..", "../x", "a\\b", "a\n", outside.as_str()] {
            for wanted in [
                Wanted { version: evil.to_owned(), ..good.clone() },
                Wanted { provider: evil.to_owned(), ..good.clone() },
                Wanted { name: format!("lab/{evil}"), ..good.clone() },
                Wanted { name: evil.to_owned(), ..good.clone() },
            ] {
                assert!(import(&wanted, &home, None, &Silent).is_err(), "{evil:?}");
            }
        }
        let left: Vec<_> = fs_err::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["x.box"]);
    }

    /// A box of these members, in its own file.
    fn of(dir: &Path, members: &[(&str, &str)]) -> Wanted {
        let wanted = a_box(dir, "box.img");
        let mut tar = tar::Builder::new(fs_err::File::create(&wanted.file).unwrap());
        for (name, text) in members {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.finish().unwrap();
        Wanted { digest: Digest::of(&fs_err::read(&wanted.file).unwrap()), ..wanted }
    }

    #[test]
    fn what_vagrant_would_not_take_for_a_box_is_not_imported() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let error = |wanted: &Wanted| import(wanted, &home, None, &Silent).unwrap_err().to_string();
        let empty = a_box(dir.path(), "box.img");
        fs_err::write(&empty.file, "").unwrap();
        let empty = Wanted { digest: Digest::of(b""), ..empty };
        assert!(error(&empty).contains("has no `metadata.json`"));
        let bare = of(dir.path(), &[("Vagrantfile", "v"), ("box.img", "disk")]);
        assert!(error(&bare).contains("has no `metadata.json`"));
        for text in ["", "[]", "{"] {
            let odd = of(dir.path(), &[("metadata.json", text), ("box.img", "disk")]);
            assert!(error(&odd).contains("`metadata.json` can not be read"), "{text}");
        }
        let twice = of(dir.path(), &[("metadata.json", "{}"), ("metadata.json", "{}")]);
        assert!(error(&twice).contains("twice"));
        let text = fs_err::read(&of(dir.path(), &[("metadata.json", "{}"), ("box.img", "disk")]).file).unwrap();
        for cut in [100, 512, 513, 1100] {
            let wanted = Wanted { digest: Digest::of(&text[..cut]), ..empty.clone() };
            fs_err::write(&wanted.file, &text[..cut]).unwrap();
            assert!(import(&wanted, &home, None, &Silent).is_err(), "{cut}");
        }
        // What was not copied whole is told so, whatever it looks like.
        fs_err::write(&empty.file, &text[..600]).unwrap();
        let cut = Wanted { digest: Digest::of(&text), ..empty };
        assert!(error(&cut).contains("its catalog says"), "{}", error(&cut));
        assert!(!home.join("boxes").exists());
    }

    #[test]
    fn one_folder_is_of_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let good = a_box(dir.path(), "box.img");
        let home = dir.path().join("home");
        for evil in ["lab-VAGRANTSLASH-x", "a-VAGRANTSLASH/x", "a-VAGRANTCOLON-x", "a:b/-VAGRANTCOLON-"] {
            let wanted = Wanted { name: evil.to_owned(), ..good.clone() };
            let error = import(&wanted, &home, None, &Silent).unwrap_err().to_string();
            assert!(error.contains("no name of a folder"), "{evil}: {error}");
        }
        assert!(import(&good, &home, None, &Silent).is_ok());
    }

    #[test]
    fn a_pipe_and_a_link_are_neither_waited_for_nor_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (home, victim) = (dir.path().join("home"), dir.path().join("victim"));
        let good = a_box(dir.path(), "box.img");
        let pipe = Wanted { file: dir.path().join("pipe"), ..good.clone() };
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe.file, 0o600.into()).unwrap();
        assert!(import(&pipe, &home, None, &Silent).unwrap_err().to_string().contains("no regular file"));
        fs_err::create_dir_all(&victim).unwrap();
        fs_err::write(victim.join("file"), "x").unwrap();
        // Left in the place where boxes are unpacked: the link goes, what it leads to stays.
        fs_err::os::unix::fs::symlink(&victim, home.join("tmp").join(UNPACKED)).unwrap();
        let of_name = home.join("boxes/lab-VAGRANTSLASH-x");
        fs_err::create_dir_all(home.join("boxes")).unwrap();
        fs_err::os::unix::fs::symlink(&victim, &of_name).unwrap();
        let error = import(&good, &home, Some("file:///x"), &Silent).unwrap_err().to_string();
        assert!(error.contains("lab-VAGRANTSLASH-x` is a link to"), "{error}");
        let left: Vec<_> = fs_err::read_dir(&victim).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["file"]);
        fs_err::remove_file(&of_name).unwrap();
        assert!(import(&good, &home, Some("file:///x"), &Silent).is_ok());
    }

    #[test]
    fn what_is_no_box_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let evil = a_box(dir.path(), "../box.img");
        assert!(import(&evil, &home, None, &Silent).unwrap_err().to_string().contains("can not be in a box"));
        let other = Wanted { digest: Digest::of(b"other"), ..a_box(dir.path(), "box.img") };
        let error = import(&other, &home, None, &Silent).unwrap_err();
        assert!(error.to_string().contains("its catalog says"), "{error}");
        let left = |dir: &str| fs_err::read_dir(home.join(dir)).map_or(0, |d| d.count());
        assert_eq!((left("boxes"), left("tmp")), (0, 1), "the lock alone");
        // What an import that was killed left is in nobody's way.
        let half = home.join("tmp").join(UNPACKED);
        fs_err::create_dir_all(&half).unwrap();
        fs_err::write(half.join("box.img"), "half").unwrap();
        let done = import(&a_box(dir.path(), "box.img"), &home, None, &Silent).unwrap();
        assert_eq!(fs_err::read(done.directory.join("box.img")).unwrap(), b"disk");
        assert_eq!(left("tmp"), 1);
    }
}
