//! qcow2 by the toolchain's qemu-img. Every option that shapes bytes is said, and clusters are written in order: with `-W` the
//! same disk gave other bytes each time.

use std::path::PathBuf;

use super::programs::Programs;
use super::raw::NAME;
use crate::build::BuildError;
use crate::model::profile::Compression;

/// Makes `/out/<name>` of the disk.
///
/// # Errors
/// Whatever qemu-img says.
pub fn convert(programs: &Programs, compression: Compression, name: &str) -> Result<PathBuf, BuildError> {
    let (flag, kind) = match compression {
        Compression::Zstd => ("-c", "zstd"),
        Compression::Zlib => ("-c", "zlib"),
        Compression::None => ("", "zlib"),
    };
    let script = format!(
        "qemu-img convert {flag} -f raw -O qcow2 -S 4k \
         -o compat=1.1,cluster_size=65536,lazy_refcounts=off,refcount_bits=16,extended_l2=off,preallocation=off,compression_type={kind} \
         /out/{NAME} /out/{name}\n"
    );
    programs.run("qemu-img convert -O qcow2", &script, &[], &[])?;
    Ok(programs.out(name))
}
