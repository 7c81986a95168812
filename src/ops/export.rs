//! `labimg export --oci|--docker`: an archive of a bundle's images for other tools.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::whose;
use crate::base::report::Reporter;
use crate::build::export::{ExportError, Exported, Selection, export as stream};
use crate::store::StoreError;
use crate::store::bundle::part::PartFile;
use crate::store::bundle::{Bundle, BundleError};

/// Where the archive goes.
pub enum Output<'a> {
    /// To a file, which is there only when it is whole; a device or FIFO is written as a stream.
    File(&'a Path),
    /// To a stream.
    Stream(&'a mut dyn Write),
}

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ExportFailure {
    /// The bundle, or the file to write.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A directory stands where the archive should go.
    #[error("`{0}` is a directory: name a file in it")]
    Directory(PathBuf),
    /// Bytes of the bundle that are not what they must be.
    #[error("`{path}` is damaged: {source}{}", of(.whose))]
    Damaged {
        /// The bundle.
        path: PathBuf,
        /// The images that need them.
        whose: String,
        /// What is wrong with them.
        source: Box<StoreError>,
    },
    /// The export itself.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// Exports the images of the bundle at `path`.
///
/// # Errors
/// A bundle that is not sound, a selection it can not serve, blobs with the wrong bytes, output that can not be written.
pub fn export(
    path: &Path,
    selection: &Selection,
    output: Output<'_>,
    reporter: &dyn Reporter,
) -> Result<Exported, ExportFailure> {
    let place = match &output {
        Output::Stream(_) => None,
        Output::File(target) => Some(place(target)?),
    };
    let bundle = Bundle::open_checked(path)?;
    let (images, epoch) = (bundle.images(), bundle.index().epoch);
    let to = |out: &mut dyn Write| {
        stream(&bundle, &images, epoch, selection, out, reporter).map_err(|e| damaged(&bundle, e))
    };
    match (output, place) {
        (Output::Stream(out), _) => to(out),
        (Output::File(target), Some(Place::Stream)) => {
            let file = fs_err::OpenOptions::new().write(true).open(target);
            let file = file.map_err(|e| BundleError::io(target, "open", e))?;
            let mut out = std::io::BufWriter::with_capacity(1 << 18, file);
            let exported = to(&mut out).map_err(|e| written(target, e))?;
            out.flush().map_err(|e| BundleError::io(target, "write", e))?;
            Ok(exported)
        }
        (Output::File(target), place) => {
            let target = match &place {
                Some(Place::Through(real)) => real,
                _ => target,
            };
            let part = PartFile::create(target)?;
            let exported = to(&mut part.file()).map_err(|e| written(target, e))?;
            part.commit(true)?;
            Ok(exported)
        }
    }
}

/// What stands where an archive should go.
enum Place {
    /// Nothing, or a file to be replaced.
    File,
    /// A link to this file (`/dev/stdout` is one): the file is replaced, the link stays.
    Through(PathBuf),
    /// A device or FIFO: nothing may be renamed over it.
    Stream,
}

fn place(target: &Path) -> Result<Place, ExportFailure> {
    let Ok(meta) = fs_err::metadata(target) else { return Ok(Place::File) };
    if meta.is_dir() {
        return Err(ExportFailure::Directory(target.to_owned()));
    }
    if !meta.is_file() {
        return Ok(Place::Stream);
    }
    match target.is_symlink() {
        true => {
            let real = fs_err::canonicalize(target).map_err(|e| BundleError::io(target, "resolve", e))?;
            Ok(Place::Through(real))
        }
        false => Ok(Place::File),
    }
}

fn written(target: &Path, error: ExportFailure) -> ExportFailure {
    match error {
        ExportFailure::Export(ExportError::Write(e)) => BundleError::io(target, "write", e).into(),
        other => other,
    }
}

fn of(whose: &str) -> String {
    if whose.is_empty() { String::new() } else { format!("; it is of {whose}") }
}

/// The error, with the images that are hit where bytes are damaged.
fn damaged(bundle: &Bundle, error: ExportError) -> ExportFailure {
    match error {
        ExportError::Store(StoreError::Mismatch { what, expected, found }) => ExportFailure::Damaged {
            path: bundle.path().to_owned(),
            whose: whose::blob(bundle, &expected),
            source: Box::new(StoreError::Mismatch { what, expected, found }),
        },
        other => other.into(),
    }
}
