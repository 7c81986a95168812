//! The `labimg` program: everything is in the library.

fn main() -> std::process::ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    // The helpers of build steps' sandboxes make namespaces, which only a process with one thread may.
    labimg::build::sandbox::init::init(&args).unwrap_or_else(|| labimg::cli::main(args))
}
