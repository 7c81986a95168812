//! The `labimg` program: everything is in the library.

fn main() -> std::process::ExitCode {
    labimg::cli::main(std::env::args_os())
}
