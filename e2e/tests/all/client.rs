//! Clients and servers that tests use on the machines of their world.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use lith_testkit::{Namespace, eventually};

/// How long a client waits: an emulated guest on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// The body of a page, which must be served.
pub(crate) fn page(from: &Namespace, url: &str) -> String {
    from.command("curl", &["-sS", "--fail", "--max-time", "20", url]).ok().stdout
}

/// Waits until a page is served.
pub(crate) fn await_page(from: &Namespace, url: &str) -> String {
    eventually(&format!("an answer from {url}"), || {
        let output = from.command("curl", &["-sS", "--fail", "--max-time", "5", url]);
        if output.code == 0 { Ok(output.stdout) } else { Err(output) }
    })
}

/// One request over a connection of its own; a client that gives up is an error.
pub(crate) fn request(from: &Namespace, to: SocketAddr) -> io::Result<String> {
    from.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

/// What a datagram is answered with.
pub(crate) fn ask_udp(from: &Namespace, to: SocketAddr, text: &str) -> String {
    let socket = from.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    // Datagrams may be lost on a loaded machine, so it is asked again.
    eventually(&format!("an answer from {to}/udp"), || {
        socket.send_to(text.as_bytes(), to)?;
        let mut buffer = [0; 2048];
        let (length, _) = socket.recv_from(&mut buffer)?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}
