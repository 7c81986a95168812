//! `labimg export --oci|--docker`: an archive of a bundle's images for other tools.

use std::io::Write;
use std::path::Path;

use crate::base::report::Reporter;
use crate::build::export::{ExportError, Exported, Selection, export as stream};
use crate::store::bundle::part::PartFile;
use crate::store::bundle::{Bundle, BundleError};

/// Where the archive goes.
pub enum Output<'a> {
    /// To a file, which is there only when it is whole.
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
    let bundle = Bundle::open(path)?;
    let (images, epoch) = (bundle.images(), bundle.index().epoch);
    let to = |out: &mut dyn Write| stream(&bundle, &images, epoch, selection, out, reporter);
    match output {
        Output::Stream(out) => Ok(to(out)?),
        Output::File(target) => {
            let part = PartFile::create(target)?;
            let exported = to(&mut part.file()).map_err(|e| match e {
                ExportError::Write(e) => BundleError::io(target, "write", e).into(),
                other => ExportFailure::from(other),
            })?;
            part.commit(true)?;
            Ok(exported)
        }
    }
}
