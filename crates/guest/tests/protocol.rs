//! Properties of frames and channels: round trips, hostile bytes, windows.

use lith_guest::messages::{Exec, Outcome, Request};
use lith_guest::mux::{CHANNELS_MAX, Event, MAIN, MESSAGES, Mux, MuxError, REQUEST_FIRST, WINDOW_BYTES};
use lith_guest::wire::{
    Body, DATA_BYTES_MAX, Decoder, Frame, HEADER_BYTES, PAYLOAD_BYTES_MAX, Role, Stream, WireError,
};
use proptest::collection::vec;
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![Just(Stream::In), Just(Stream::Out), Just(Stream::Err)]
}

fn frame() -> impl Strategy<Value = Frame> {
    let body = prop_oneof![
        vec(any::<u8>(), 0..200).prop_map(Body::Open),
        (stream(), vec(any::<u8>(), 1..300)).prop_map(|(stream, bytes)| Body::Data { stream, bytes }),
        stream().prop_map(Body::Eof),
        vec(any::<u8>(), 0..200).prop_map(Body::Control),
        prop_oneof![
            Just(br#""done""#.to_vec()),
            Just(br#"{"exited":{"code":3}}"#.to_vec()),
            vec(any::<u8>(), 0..20)
        ]
        .prop_map(Body::Close),
        prop_oneof![0..WINDOW_BYTES, any::<u32>()].prop_map(Body::Credit),
    ];
    let channel = prop_oneof![0u32..3, REQUEST_FIRST..REQUEST_FIRST + 4, any::<u32>()];
    (channel, body).prop_map(|(channel, body)| Frame { channel, body })
}

/// Feeds `bytes` in pieces of `piece` bytes and gives the frames up to the first violation.
fn decode(role: Role, bytes: &[u8], piece: usize) -> (Vec<Frame>, Option<WireError>) {
    let (mut decoder, mut frames) = (Decoder::new(role), Vec::new());
    for chunk in bytes.chunks(piece.max(1)) {
        let mut rest = chunk;
        loop {
            match decoder.next_frame(&mut rest) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(rest.is_empty(), "the decoder takes all it is given");
    }
    (frames, None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn frames_survive_the_wire(frames in vec(frame(), 0..8), piece in 1usize..600) {
        let mut bytes = Vec::new();
        for frame in &frames {
            frame.encode_into(&mut bytes);
        }
        let (decoded, error) = decode(Role::Host, &bytes, piece);
        prop_assert!(error.is_none());
        prop_assert_eq!(decoded, frames);
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..400), piece in 1usize..50) {
        let (frames, _) = decode(Role::Host, &bytes, piece);
        let mut mux = Mux::new(Role::Host);
        for frame in frames {
            if mux.receive(frame).is_err() {
                break;
            }
        }
    }

    /// Headers that are nearly right get further than random bytes do: known kinds, lengths around each limit.
    #[test]
    fn plausible_headers_do_no_harm(
        headers in vec(
            (
                prop_oneof![
                    0usize..8,
                    DATA_BYTES_MAX - 1..DATA_BYTES_MAX + 3,
                    PAYLOAD_BYTES_MAX - 1..PAYLOAD_BYTES_MAX + 2,
                ],
                prop_oneof![0u32..3, REQUEST_FIRST..REQUEST_FIRST + 3, any::<u32>()],
                0u8..9,
                any::<u8>(),
            ),
            1..6,
        ),
        piece in 1usize..100_000,
    ) {
        let mut bytes = Vec::new();
        for (length, channel, kind, filler) in headers {
            bytes.extend(u32::try_from(length).unwrap().to_le_bytes());
            bytes.extend(channel.to_le_bytes());
            bytes.push(kind);
            // The first byte is often a stream's number.
            bytes.extend(std::iter::repeat_n(filler % 4, length));
        }
        for role in [Role::Host, Role::Guest] {
            let (frames, _) = decode(role, &bytes, piece);
            let mut mux = Mux::new(role);
            if role == Role::Host {
                mux.open(&Request::CopyOut { path: "/".into() }).unwrap();
            }
            for frame in frames {
                prop_assert!(frame.encode().len() <= HEADER_BYTES + role.accepts_bytes_max());
                if mux.receive(frame).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn mutated_frames_do_no_harm(
        frames in vec(frame(), 1..8),
        changes in vec((any::<usize>(), any::<u8>()), 1..6),
        piece in 1usize..600,
    ) {
        let mut bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let length = bytes.len();
        for (place, value) in changes {
            bytes[place % length] = value;
        }
        for role in [Role::Host, Role::Guest] {
            let (frames, _) = decode(role, &bytes, piece);
            let mut mux = Mux::new(role);
            for frame in frames {
                if mux.receive(frame).is_err() {
                    break;
                }
            }
        }
    }

    /// Whatever frames a guest sends, what the host holds stays within the windows.
    #[test]
    fn a_host_never_holds_more_than_its_windows(
        frames in vec(frame(), 1..60),
        consumes in vec(any::<bool>(), 60),
    ) {
        let mut mux = Mux::new(Role::Host);
        for _ in 0..4 {
            mux.open(&Request::CopyOut { path: "/".into() }).unwrap();
        }
        mux.close(REQUEST_FIRST + 1, &Outcome::Cancelled).unwrap();
        let mut held = std::collections::BTreeMap::<u32, usize>::new();
        for (frame, consume) in frames.into_iter().zip(consumes) {
            // A bad frame ends a real connection; going on anyway finds more.
            if let Ok(Event::Data { channel, bytes, .. }) = mux.receive(frame) {
                let held = held.entry(channel).or_default();
                *held += bytes.len();
                prop_assert!(*held <= WINDOW_BYTES as usize);
                if consume {
                    mux.consumed(channel, std::mem::take(held));
                }
            }
        }
    }

    /// Both ends together: any mix of sizes arrives whole and in order, and neither end ever complains.
    #[test]
    fn bytes_flow_through_both_ends(sizes in vec(1usize..200_000, 1..12), lazy in 1usize..5) {
        let (mut host, mut guest) = (Mux::new(Role::Host), Mux::new(Role::Guest));
        let (mut sent, mut received, mut held) = (0usize, 0usize, 0usize);
        let total: usize = sizes.iter().sum();
        for (round, size) in sizes.into_iter().enumerate() {
            let mut left = size;
            while left > 0 {
                let count = guest.sendable(MAIN).min(left);
                if count == 0 {
                    prop_assert!(held > 0, "stalled");
                    if let Some(credit) = host.consumed(MAIN, std::mem::take(&mut held)) {
                        guest.receive(credit).unwrap();
                    }
                    continue;
                }
                let bytes: Vec<u8> = (sent..sent + count).map(|place| place.to_le_bytes()[0]).collect();
                let frame = guest.data(MAIN, Stream::Out, bytes).unwrap();
                let Event::Data { bytes, .. } = host.receive(frame).unwrap() else { panic!("no data") };
                prop_assert!(bytes.iter().zip(received..).all(|(byte, place)| *byte == place.to_le_bytes()[0]));
                (sent, received, held, left) = (sent + count, received + bytes.len(), held + bytes.len(), left - count);
            }
            if round % lazy == 0 && let Some(credit) = host.consumed(MAIN, std::mem::take(&mut held)) {
                guest.receive(credit).unwrap();
            }
        }
        prop_assert_eq!(received, total);
    }
}

#[test]
fn announcements_are_refused_before_the_payload() {
    let check = |role: Role, header: [u8; HEADER_BYTES], expect: &str| {
        let (frames, error) = decode(role, &header, 1);
        assert!(frames.is_empty());
        assert_eq!(error.map(|error| error.to_string()).as_deref(), Some(expect));
    };
    check(Role::Host, [1, 0, 1, 0, 0, 0, 0, 0, 4], "frame of 65537 bytes, more than the 65536 allowed");
    check(
        Role::Guest,
        [255, 255, 255, 255, 0, 0, 0, 0, 4],
        "frame of 4294967295 bytes, more than the 8388608 allowed",
    );
    check(Role::Host, [1, 0, 0, 0, 0, 0, 0, 0, 9], "frame of unknown kind 9");
    check(Role::Host, [1, 0, 0, 0, 1, 0, 0, 0, 2], "frame of kind 2 with a payload of 1 bytes");
    check(Role::Host, [2, 128, 0, 0, 1, 0, 0, 0, 2], "frame of kind 2 with a payload of 32770 bytes");
    check(Role::Host, [5, 0, 0, 0, 1, 0, 0, 0, 6], "frame of kind 6 with a payload of 5 bytes");
}

#[test]
fn a_decoder_stays_broken() {
    let mut decoder = Decoder::new(Role::Host);
    assert!(decoder.next_frame(&mut [1, 0, 0, 0, 0, 0, 0, 0, 9].as_slice()).is_err());
    let good = Frame { channel: 0, body: Body::Control(vec![]) }.encode();
    assert!(decoder.next_frame(&mut good.as_slice()).is_err());
}

#[test]
fn messages_over_the_limit_are_not_sent() {
    assert!(Frame::control(Role::Guest, MESSAGES, &"x".repeat(PAYLOAD_BYTES_MAX)).is_err());
    assert!(Frame::control(Role::Host, MESSAGES, &"x".repeat(PAYLOAD_BYTES_MAX)).is_ok());
}

fn output(channel: u32, count: usize) -> Frame {
    Frame { channel, body: Body::Data { stream: Stream::Out, bytes: vec![0; count] } }
}

#[test]
fn an_overrun_is_refused() {
    let mut host = Mux::new(Role::Host);
    for _ in 0..WINDOW_BYTES as usize / DATA_BYTES_MAX {
        assert!(matches!(host.receive(output(MAIN, DATA_BYTES_MAX)), Ok(Event::Data { .. })));
    }
    assert!(matches!(host.receive(output(MAIN, 1)), Err(MuxError::Overrun { channel: MAIN, over_bytes: 1 })));
}

#[test]
fn a_sender_may_not_exceed_its_window() {
    let mut guest = Mux::new(Role::Guest);
    for _ in 0..WINDOW_BYTES as usize / DATA_BYTES_MAX {
        guest.data(MAIN, Stream::Err, vec![0; guest.sendable(MAIN)]).unwrap();
    }
    assert_eq!(guest.sendable(MAIN), 0);
    assert!(matches!(guest.data(MAIN, Stream::Err, vec![0]), Err(MuxError::WindowFull { .. })));
    assert!(matches!(
        guest.receive(Frame { channel: MAIN, body: Body::Credit(WINDOW_BYTES + 1) }),
        Err(MuxError::CreditOverflow { .. })
    ));
    guest.receive(Frame { channel: MAIN, body: Body::Credit(WINDOW_BYTES) }).unwrap();
    assert_eq!(guest.sendable(MAIN), DATA_BYTES_MAX);
}

#[test]
fn credit_out_of_nothing_is_refused() {
    let mut host = Mux::new(Role::Host);
    let (channel, _) = host.open(&Request::CopyIn { path: "/".into() }).unwrap();
    assert!(host.receive(Frame { channel, body: Body::Credit(1) }).is_err());
}

#[test]
fn what_a_guest_may_not_say() {
    let check = |body: Body, channel: u32| {
        let mut host = Mux::new(Role::Host);
        host.open(&Request::CopyOut { path: "/".into() }).unwrap();
        let text = format!("{body:?} on {channel}");
        assert!(host.receive(Frame { channel, body }).is_err(), "{text}");
    };
    let data = |stream| Body::Data { stream, bytes: vec![1] };
    check(data(Stream::Out), MESSAGES);
    check(Body::Close(b"\"done\"".to_vec()), MESSAGES);
    check(Body::Credit(0), MESSAGES);
    check(data(Stream::In), MAIN);
    check(Body::Eof(Stream::In), MAIN);
    check(Body::Close(b"\"done\"".to_vec()), MAIN);
    check(Body::Control(vec![]), MAIN);
    check(Body::Open(br#"{"copy_out":{"path":"/"}}"#.to_vec()), REQUEST_FIRST + 1);
    check(data(Stream::Out), REQUEST_FIRST + 1);
    check(Body::Close(b"\"done\"".to_vec()), REQUEST_FIRST + 1);
    check(Body::Control(vec![]), REQUEST_FIRST);
    check(Body::Close(b"{}".to_vec()), REQUEST_FIRST);
    check(data(Stream::Out), 7);
}

#[test]
fn nothing_follows_the_end_of_a_stream() {
    let mut host = Mux::new(Role::Host);
    let eof = || Frame { channel: MAIN, body: Body::Eof(Stream::Out) };
    assert!(matches!(host.receive(eof()), Ok(Event::Eof { .. })));
    assert!(host.receive(output(MAIN, 1)).is_err());
    assert!(host.receive(eof()).is_err());
    assert!(host.receive(Frame { channel: MAIN, body: Body::Eof(Stream::Err) }).is_ok());
}

#[test]
fn a_request_from_start_to_end() {
    let (mut host, mut guest) = (Mux::new(Role::Host), Mux::new(Role::Guest));
    let request = Request::Exec(Exec {
        argv: vec!["true".into()],
        env: Default::default(),
        user: None,
        working_dir: None,
        tty: None,
    });
    let (channel, open) = host.open(&request).unwrap();
    assert_eq!(guest.receive(open).unwrap(), Event::Opened { channel, request });
    let close = guest.close(channel, &Outcome::Done).unwrap();
    assert!(!guest.is_open(channel));
    // The host does not know yet; what it says now is late, not wrong.
    let late = host.data(channel, Stream::In, vec![1]).unwrap();
    assert_eq!(guest.receive(late).unwrap(), Event::Ignored);
    assert_eq!(host.receive(close).unwrap(), Event::Closed { channel, outcome: Outcome::Done });
    assert!(!host.is_open(channel));
}

#[test]
fn a_request_given_up_by_the_host() {
    let (mut host, mut guest) = (Mux::new(Role::Host), Mux::new(Role::Guest));
    let (channel, open) = host.open(&Request::CopyOut { path: "/".into() }).unwrap();
    guest.receive(open).unwrap();
    let under_way = guest.data(channel, Stream::Out, vec![1]).unwrap();
    let close = host.close(channel, &Outcome::Cancelled).unwrap();
    assert!(host.close(channel, &Outcome::Cancelled).is_err());
    assert_eq!(host.sendable(channel), 0);
    assert_eq!(host.receive(under_way).unwrap(), Event::Ignored);
    assert_eq!(guest.receive(close).unwrap(), Event::Cancelled { channel });
    assert_eq!(guest.sendable(channel), 0);
    let close = guest.close(channel, &Outcome::Cancelled).unwrap();
    assert!(matches!(host.receive(close).unwrap(), Event::Closed { .. }));
}

#[test]
fn open_requests_are_bounded() {
    let (mut host, mut guest) = (Mux::new(Role::Host), Mux::new(Role::Guest));
    let request = Request::CopyOut { path: "/".into() };
    for _ in 0..CHANNELS_MAX {
        let (_, open) = host.open(&request).unwrap();
        guest.receive(open).unwrap();
    }
    assert!(matches!(host.open(&request), Err(MuxError::TooManyChannels)));
    let close = guest.close(REQUEST_FIRST, &Outcome::Done).unwrap();
    host.receive(close).unwrap();
    assert!(host.open(&request).is_ok());
}
