//! How fast a resolver answers, as JSON on one line: `dns-probe FROM SERVER NAME QUESTIONS-PER-SECOND QUESTIONS`, such as
//! `dns-probe 10.83.0.7:0 169.254.83.1:8053 db 1000 10000`. The first two are addresses with ports.

use std::error::Error;

use lith_dns::probe;

#[allow(clippy::print_stdout, reason = "it is what this program is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, server, name, per_second, count] = arguments.as_slice() else {
        return Err("usage: dns-probe FROM SERVER NAME QUESTIONS-PER-SECOND QUESTIONS".into());
    };
    let pace = (per_second.parse()?, count.parse()?);
    let took = probe::measure(from.parse()?, server.parse()?, name, pace)?;
    let within = |thousandths| took.within(thousandths).map(|time| time.as_micros()).unwrap_or_default();
    let (p50_us, p99_us, max_us, lost) = (within(500), within(990), within(1_000), took.lost);
    println!(r#"{{"p50_us":{p50_us},"p99_us":{p99_us},"max_us":{max_us},"lost":{lost}}}"#);
    Ok(())
}
