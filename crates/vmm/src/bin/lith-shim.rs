//! The supervisor as a program of its own: what tests of this crate launch. Everything in it is the library's.

fn main() -> std::process::ExitCode {
    lith_vmm::shim::main(&std::env::args().skip(1).collect::<Vec<_>>())
}
