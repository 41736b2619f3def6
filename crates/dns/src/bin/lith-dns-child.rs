//! The half without rights as a program of its own: what tests of this crate start. Everything in it is the library's.

fn main() -> std::process::ExitCode {
    lith_dns::child::main(&std::env::args().skip(1).collect::<Vec<_>>())
}
