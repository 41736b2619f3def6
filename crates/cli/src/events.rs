//! `events`: what happens, as it happens.

use futures_util::StreamExt;
use lith_api::error::{Code, Failure};
use lith_api::event::Event;

use crate::args::EventsArgs;
use crate::context::Context;
use crate::error::Error;
use crate::terminal::{Paint, printable};
use crate::time;

/// Longest line of the stream that is held; an event is a few hundred bytes.
const LINE_BYTES_MAX: usize = 1 << 20;

/// `lith events`.
pub(crate) async fn events(context: &Context, args: &EventsArgs) -> Result<u8, Error> {
    let since_ms = match (args.all, args.since) {
        (true, _) => Some(0),
        (false, since) => since.map(|since| since.to_ms(time::now_ms())),
    };
    let query = since_ms.map_or(String::new(), |since_ms| format!("?since_ms={since_ms}"));
    let mut bytes = context.client.download(&format!("/v1/events{query}")).await?;
    let mut reader = Reader::default();
    while let Some(part) = bytes.next().await {
        for event in reader.take(&part?)? {
            // What concerns no job, such as that events are missing, concerns all.
            let is_of_another = |job| event.job.as_ref().is_some_and(|of| of != job);
            if args.job.as_ref().is_some_and(is_of_another) {
                continue;
            }
            if context.json {
                context.print_json_line(&event)?;
            } else {
                context.print(&text(&event, context.terminal.stdout))?;
            }
        }
    }
    Err(Error::new(
        Code::Unreachable,
        "the server ended the stream of events",
        "see whether `lith up` still runs",
    ))
}

/// Takes server-sent events apart, whatever the pieces they come in. Only `data` matters here.
#[derive(Debug, Default)]
struct Reader {
    buffer: Vec<u8>,
    data: String,
}

impl Reader {
    fn take(&mut self, part: &[u8]) -> Result<Vec<Event>, Failure> {
        self.buffer.extend_from_slice(part);
        let mut events = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.buffer[begin..].iter().position(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(&self.buffer[begin..begin + length]).into_owned();
            begin += length + 1;
            let line = line.trim_end_matches('\r');
            if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            } else if line.is_empty() && !self.data.is_empty() {
                let data = std::mem::take(&mut self.data);
                events.push(serde_json::from_str(&data).map_err(|error| unreadable(&error.to_string()))?);
            }
        }
        self.buffer.drain(..begin);
        if self.buffer.len() + self.data.len() > LINE_BYTES_MAX {
            return Err(unreadable("an event is too long"));
        }
        Ok(events)
    }
}

fn unreadable(why: &str) -> Failure {
    Failure::new(Code::Internal, format!("cannot read an event: {why}"))
        .hint("compare `lith version` of the command and the server")
}

fn text(event: &Event, paint: Paint) -> String {
    let time = i64::try_from(event.time_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let time = time.map_or_else(|| event.time_ms.to_string(), |time| format!("{time:.3}"));
    let whom = event.task.as_ref().or(event.job.as_ref()).cloned().unwrap_or_default();
    let line = format!("{} {whom}  {}: {}", paint.dim(&time), event.kind, printable(&event.message));
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_in_any_pieces() {
        let stream = "id: 1\nevent: phase\ndata: {\"id\":1,\"time_ms\":1000,\"task\":\"a.main.0.web\",\
                      \"kind\":\"phase\",\"message\":\"ready\"}\n\n: keep-alive\n\nid: 2\r\n\
                      data: {\"id\":2,\"time_ms\":2500,\"job\":\"a\",\ndata: \"kind\":\"removed\",\"message\":\"gone\"}\r\n\r\n";
        for size in [1, 7, 10_000] {
            let mut reader = Reader::default();
            let pieces = stream.as_bytes().chunks(size);
            let events: Vec<Event> = pieces.flat_map(|piece| reader.take(piece).unwrap()).collect();
            let lines: String = events.iter().map(|event| text(event, Paint::PLAIN)).collect();
            assert_eq!(
                lines,
                "1970-01-01T00:00:01.000Z a.main.0.web  phase: ready\n1970-01-01T00:00:02.500Z a  removed: gone\n"
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Reader::default().take(b"data: {}\n\n").is_err());
        assert!(Reader::default().take(&vec![b'x'; LINE_BYTES_MAX + 1]).is_err());
    }
}
