//! Two conversations under anything that links, applications and restarts can do, against the promises of delivery.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::{Config, testing::epoch};

const LANES: u8 = 2;
const SIZES: [usize; 7] = [0, 1, 9, 700, 16 * 1024, 20_000, 150_000];

#[derive(Clone, Debug)]
enum Op {
    Send { end: usize, lane: u8, size: usize, ttl_ms: u64 },
    NewLink,
    Attach { end: usize },
    Detach { end: usize },
    Write { end: usize, lane: u8, chunks: usize },
    WriteControl { end: usize, messages: usize },
    Read { end: usize, lane: u8, bytes: usize },
    ReadControl { end: usize, messages: usize },
    Take { end: usize, index: usize },
    Wait { ms: u64 },
    Restart { end: usize },
    GiveUp { end: usize },
    GiveUpUnwritten { end: usize },
    Settle { rounds: usize },
}

/// What a link that lives and nodes that live can do.
fn calm_op() -> impl Strategy<Value = Op> {
    let (end, lane) = (0..2usize, 0..LANES);
    prop_oneof![
        8 => (end.clone(), lane.clone(), prop::sample::select(&SIZES), prop_oneof![Just(50), Just(1_000_000u64)])
            .prop_map(|(end, lane, size, ttl_ms)| Op::Send { end, lane, size, ttl_ms }),
        8 => (end.clone(), lane.clone(), 1..5usize).prop_map(|(end, lane, chunks)| Op::Write { end, lane, chunks }),
        8 => (end.clone(), 1..4usize).prop_map(|(end, messages)| Op::WriteControl { end, messages }),
        8 => (end.clone(), lane, prop_oneof![1..40usize, 1..100_000usize])
            .prop_map(|(end, lane, bytes)| Op::Read { end, lane, bytes }),
        8 => (end.clone(), 1..4usize).prop_map(|(end, messages)| Op::ReadControl { end, messages }),
        6 => (end, 0..6usize).prop_map(|(end, index)| Op::Take { end, index }),
        2 => (1..60u64).prop_map(|ms| Op::Wait { ms }),
        3 => (1..4usize).prop_map(|rounds| Op::Settle { rounds }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let end = 0..2usize;
    prop_oneof![
        42 => calm_op(),
        2 => Just(Op::NewLink),
        5 => end.clone().prop_map(|end| Op::Attach { end }),
        1 => end.clone().prop_map(|end| Op::Detach { end }),
        1 => end.clone().prop_map(|end| Op::Restart { end }),
        1 => end.clone().prop_map(|end| Op::GiveUp { end }),
        1 => end.prop_map(|end| Op::GiveUpUnwritten { end }),
    ]
}

/// One direction of a link: ordered in itself, its streams independent.
#[derive(Default)]
struct Pipe {
    control: VecDeque<SessionMessage>,
    lanes: [BytesMut; LANES as usize],
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    from: usize,
    lane: u8,
    size: usize,
    patient: bool,
    /// The life of the sender in which it was sent.
    life: u64,
    outcome: Option<Outcome>,
    arrived: bool,
    taken: bool,
}

struct End {
    conversation: Conversation,
    life: u64,
    link: Option<usize>,
    /// Links below are over for this end.
    next_link: usize,
    /// Shown to the application, not taken yet: lane, seq, tag.
    shown: Vec<(u8, u64, u64)>,
    blocked: bool,
}

impl End {
    fn new(config: &Config, life: u64) -> Self {
        let conversation = Conversation::new(config, seed(life));
        Self { conversation, life, link: None, next_link: 0, shown: Vec::new(), blocked: false }
    }
}

struct World {
    now: Instant,
    config: Config,
    ends: [End; 2],
    /// For each link, the pipe that each end writes.
    links: Vec<[Pipe; 2]>,
    sent: BTreeMap<u64, Sent>,
    /// The last tag that arrived, by sender, its life, and lane: tags ascend.
    last: BTreeMap<(usize, u64, u8), u64>,
    lives: u64,
    given_up: BTreeSet<usize>,
    /// Ends that gave up what they had not written.
    gave_up_unwritten: BTreeSet<usize>,
    restarted: bool,
}

fn seed(life: u64) -> [u8; 16] {
    (u128::from(life) << 64 | 1).to_le_bytes()
}

/// Begins with the tag if there is room for it.
fn payload(tag: u64, size: usize) -> Bytes {
    let rest = (8..size).map(|i| (tag as usize).wrapping_mul(31).wrapping_add(i) as u8);
    tag.to_be_bytes().into_iter().take(size).chain(rest).collect()
}

/// Both kinds of receipts: those that are awaited, and those that can wait for something to go with.
fn kind(tag: u64, size: usize) -> Kind {
    if size >= 8 && tag.is_multiple_of(2) { Kind::Message } else { Kind::Request { rid: tag } }
}

impl World {
    fn new() -> Self {
        let config = Config {
            max_message: 200_000,
            lanes: LANES,
            max_queued_messages: 12,
            max_queued_bytes: 400_000,
            max_unhanded_messages: 4,
            max_unhanded_bytes: 200_000,
            ..Config::default()
        };
        let ends = [End::new(&config, 0), End::new(&config, 1)];
        Self {
            now: epoch(),
            ends,
            links: Vec::new(),
            sent: BTreeMap::new(),
            last: BTreeMap::new(),
            lives: 2,
            given_up: BTreeSet::new(),
            gave_up_unwritten: BTreeSet::new(),
            restarted: false,
            config,
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Send { end, lane, size, ttl_ms } => self.send(end, lane, size, ttl_ms),
            Op::NewLink => self.links.push(Default::default()),
            Op::Attach { end } => self.attach(end),
            Op::Detach { end } => {
                self.ends[end].link = None;
                self.ends[end].conversation.detach(self.now);
            }
            Op::Write { end, lane, chunks } => {
                for _ in 0..chunks {
                    self.write(end, lane);
                }
            }
            Op::WriteControl { end, messages } => {
                for _ in 0..messages {
                    self.write_control(end);
                }
            }
            Op::Read { end, lane, bytes } => {
                self.read(end, lane, bytes);
            }
            Op::ReadControl { end, messages } => {
                for _ in 0..messages {
                    self.read_control(end);
                }
            }
            Op::Take { end, index } => {
                self.take(end, index);
            }
            Op::Wait { ms } => self.wait(ms),
            Op::Restart { end } => self.restart(end),
            Op::GiveUp { end } => {
                self.given_up.insert(end);
                self.ends[end].conversation.fail_all(Reason::Offline);
            }
            Op::GiveUpUnwritten { end } => {
                self.gave_up_unwritten.insert(end);
                self.ends[end].conversation.fail_unwritten(Reason::Offline);
            }
            Op::Settle { rounds } => {
                for _ in 0..rounds {
                    self.settle();
                }
            }
        }
        self.events();
    }

    fn send(&mut self, from: usize, lane: u8, size: usize, ttl_ms: u64) {
        let tag = self.sent.len() as u64;
        let End { conversation, life, blocked, .. } = &mut self.ends[from];
        let expires = self.now + Duration::from_millis(ttl_ms);
        let message = Outgoing { lane, kind: kind(tag, size), data: payload(tag, size), expires, tag };
        match conversation.send(self.now, message) {
            Ok(()) => {
                let patient = ttl_ms > 1000;
                let life = *life;
                let sent = Sent { from, lane, size, patient, life, outcome: None, arrived: false, taken: false };
                self.sent.insert(tag, sent);
            }
            Err(Full) => *blocked = true,
        }
    }

    /// To the newest link; the other end may still be on another.
    fn attach(&mut self, end: usize) {
        if self.ends[end].next_link < self.links.len() {
            self.ends[end].link = self.links.len().checked_sub(1);
            self.ends[end].next_link = self.links.len();
            self.ends[end].conversation.attach(self.now);
        }
    }

    fn write(&mut self, end: usize, lane: u8) -> bool {
        let Some(link) = self.ends[end].link else { return false };
        let ready = self.ends[end].conversation.lanes_ready() & 1 << lane != 0;
        let Some(chunk) = self.ends[end].conversation.poll_chunk(self.now, lane) else { return false };
        assert!(ready && !chunk.is_empty() && chunk.len() <= MAX_CHUNK);
        self.links[link][end].lanes[usize::from(lane)].extend_from_slice(&chunk);
        true
    }

    fn write_control(&mut self, end: usize) -> bool {
        let Some(link) = self.ends[end].link else { return false };
        let Some(message) = self.ends[end].conversation.poll_control() else { return false };
        self.links[link][end].control.push_back(message);
        true
    }

    fn read(&mut self, end: usize, lane: u8, bytes: usize) -> bool {
        let Some(link) = self.ends[end].link else { return false };
        let stream = &mut self.links[link][1 - end].lanes[usize::from(lane)];
        if stream.is_empty() || !self.ends[end].conversation.can_receive(lane) {
            return false;
        }
        let bytes = stream.copy_to_bytes(bytes.min(stream.len()));
        self.ends[end].conversation.receive(self.now, lane, bytes).unwrap();
        true
    }

    fn read_control(&mut self, end: usize) -> bool {
        let Some(link) = self.ends[end].link else { return false };
        let Some(message) = self.links[link][1 - end].control.pop_front() else { return false };
        self.ends[end].conversation.handle_control(self.now, message).unwrap();
        true
    }

    fn take(&mut self, end: usize, index: usize) -> bool {
        if index >= self.ends[end].shown.len() {
            return false;
        }
        let (lane, seq, tag) = self.ends[end].shown.remove(index);
        self.sent.get_mut(&tag).unwrap().taken = true;
        self.ends[end].conversation.handed(self.now, lane, seq, 1);
        true
    }

    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        for End { conversation, .. } in &mut self.ends {
            if conversation.deadline().is_some_and(|at| at <= self.now) {
                conversation.handle_timeout(self.now);
            }
            assert!(conversation.deadline().is_none_or(|at| at > self.now), "a deadline that stays due");
        }
    }

    /// The process at `end` starts anew; the other end learns of it when it attaches again.
    fn restart(&mut self, end: usize) {
        self.events();
        self.ends[end] = End::new(&self.config, self.lives);
        self.lives += 1;
        self.restarted = true;
        self.links.push(Default::default());
    }

    /// One round of a healthy link.
    fn settle(&mut self) -> bool {
        let mut moved = false;
        for end in 0..2 {
            while self.write_control(end) {
                moved = true;
            }
            for lane in 0..LANES {
                moved |= self.write(end, lane);
            }
        }
        for end in 0..2 {
            while self.read_control(end) {
                moved = true;
            }
            for lane in 0..LANES {
                moved |= self.read(end, lane, 50_000);
                self.events();
            }
        }
        moved
    }

    fn events(&mut self) {
        for end in 0..2 {
            while let Some(event) = self.ends[end].conversation.poll_event() {
                match event {
                    ConversationEvent::Outcome { tag, count, outcome } => {
                        (tag..tag + count).for_each(|tag| self.outcome(end, tag, outcome));
                    }
                    ConversationEvent::Unblocked => assert!(std::mem::take(&mut self.ends[end].blocked)),
                    event => {
                        event.arrived().for_each(|(lane, seq, kind, data)| self.arrived(end, lane, seq, kind, &data));
                    }
                }
            }
        }
    }

    fn arrived(&mut self, end: usize, lane: u8, seq: u64, kind: Kind, data: &Bytes) {
        let tag = match kind {
            Kind::Message => data.clone().get_u64(),
            Kind::Request { rid } => rid,
            other => panic!("{other:?}"),
        };
        let sent = self.sent.get_mut(&tag).unwrap();
        assert!(!std::mem::replace(&mut sent.arrived, true), "{tag} arrived twice");
        assert!(sent.from == 1 - end && sent.lane == lane && *data == payload(tag, sent.size), "{tag} is damaged");
        assert_ne!(sent.outcome, Some(Outcome::Failed(Reason::Offline)), "{tag} arrived after it had failed");
        let before = self.last.insert((sent.from, sent.life, lane), tag);
        assert!(before.is_none_or(|before| before < tag), "{tag} arrived after {before:?}");
        let shown = &mut self.ends[end].shown;
        assert!(shown.iter().all(|shown| (shown.0, shown.1) != (lane, seq)), "{tag} has the name of another");
        shown.push((lane, seq, tag));
    }

    fn outcome(&mut self, end: usize, tag: u64, outcome: Outcome) {
        let life = self.ends[end].life;
        let sent = self.sent.get_mut(&tag).unwrap();
        assert!(sent.from == end && sent.life == life);
        assert_eq!(sent.outcome.replace(outcome), None, "a second outcome for {tag}");
        match outcome {
            Outcome::Delivered => assert!(sent.taken, "{tag} is delivered but was not taken"),
            Outcome::Expired => assert!(!sent.patient, "{tag} has not expired"),
            Outcome::Failed(Reason::Offline) => assert!(!sent.arrived, "{tag} has arrived and failed"),
            Outcome::Failed(Reason::UnknownOutcome) => {
                assert!(self.restarted || self.given_up.contains(&end), "nobody forgot {tag}");
            }
            Outcome::Failed(_) => panic!("{tag}: {outcome:?}"),
        }
    }

    /// A healthy link and applications that take: nothing may be left.
    fn finish(mut self) {
        self.links.push(Default::default());
        for end in 0..2 {
            self.attach(end);
        }
        let mut waited = false;
        loop {
            let mut moved = self.settle();
            for end in 0..2 {
                moved |= self.take(end, 0);
            }
            if moved {
                waited = false;
            } else if waited {
                break;
            } else {
                // for receipts that wait for something to go with
                self.wait(20);
                waited = true;
            }
        }
        for End { conversation, life, blocked, .. } in &self.ends {
            assert!(
                conversation.is_idle() && !conversation.wants_link() && !blocked && conversation.deadline().is_none()
            );
            assert_eq!(conversation.lanes_ready(), 0);
            let left = self.sent.iter().find(|(_, sent)| sent.life == *life && sent.outcome.is_none());
            assert!(left.is_none(), "no outcome: {left:?}");
        }
        if !self.restarted {
            for (tag, sent) in self.sent.iter().filter(|(_, sent)| !self.given_up.contains(&sent.from)) {
                let delivered = sent.outcome == Some(Outcome::Delivered);
                let unwritten = sent.outcome == Some(Outcome::Failed(Reason::Offline));
                let given_up = unwritten && self.gave_up_unwritten.contains(&sent.from);
                assert!(delivered || given_up || !sent.patient, "{tag} was not delivered: {sent:?}");
            }
        }
    }
}

fn run(ops: Vec<Op>) {
    let mut world = World::new();
    for op in ops {
        world.apply(op);
    }
    world.finish();
}

proptest! {
    #[test]
    fn promises_hold_whatever_happens(ops in prop::collection::vec(op(), 0..250)) {
        run(ops);
    }

    #[test]
    fn promises_hold_on_a_link_that_lives(ops in prop::collection::vec(calm_op(), 0..250)) {
        run([Op::NewLink, Op::Attach { end: 0 }, Op::Attach { end: 1 }].into_iter().chain(ops).collect());
    }
    /// A remote that is let in but keeps no rule may lose its link, and nothing else.
    #[test]
    fn nothing_that_a_remote_says_does_harm(moves in prop::collection::vec(hostile(), 0..60)) {
        let config = Config { max_message: 1000, max_unhanded_messages: 4, ..Config::default() };
        let now = epoch();
        let mut conversation = Conversation::new(&config, seed(0));
        let (mut outcomes, mut sent) = (BTreeSet::new(), 0);
        conversation.attach(now);
        for (message, lane, bytes) in moves {
            let data = payload(sent, 40);
            let message_of_ours = Outgoing { lane: 0, kind: Kind::Message, data, expires: now + TTL, tag: sent };
            sent += u64::from(conversation.send(now, message_of_ours).is_ok());
            let mut result = conversation.handle_control(now, message);
            if conversation.can_receive(lane) {
                result = result.and(conversation.receive(now, lane, bytes.into()));
            }
            while conversation.poll_control().is_some() || conversation.poll_chunk(now, 0).is_some() {}
            if result.is_err() {
                conversation.attach(now);
            }
            while let Some(event) = conversation.poll_event() {
                match event {
                    ConversationEvent::Messages { lane, seq, data } => {
                        conversation.handed(now, lane, seq, data.len() as u64);
                    }
                    ConversationEvent::Arrived { lane, seq, .. } => conversation.handed(now, lane, seq, 1),
                    ConversationEvent::Outcome { tag, count, .. } => {
                        prop_assert!((tag..tag + count).all(|tag| outcomes.insert(tag)));
                    }
                    ConversationEvent::Unblocked => {}
                }
            }
        }
        conversation.handle_timeout(now + 2 * TTL);
        while let Some(event) = conversation.poll_event() {
            if let ConversationEvent::Outcome { tag, count, .. } = event {
                prop_assert!((tag..tag + count).all(|tag| outcomes.insert(tag)));
            }
        }
        prop_assert_eq!(outcomes.len() as u64, sent);
    }
}

const TTL: Duration = Duration::from_secs(60);

fn hostile() -> impl Strategy<Value = (SessionMessage, u8, Vec<u8>)> {
    let number = || prop_oneof![4 => 0..6u64, 1 => any::<u64>()];
    let session = || (0..2u64, 0..3u64).prop_map(|(life, count)| SessionId { seed: seed(life), count });
    let heard = (session(), prop::collection::vec(number(), 0..4)).prop_map(|(session, next)| Heard { session, next });
    let message = prop_oneof![
        (0..2u64, prop::option::of(heard))
            .prop_map(|(life, heard)| SessionMessage::Known { instance: seed(life), heard }),
        session().prop_map(|session| SessionMessage::Open { session }),
        (0..2u8, number(), prop::collection::vec((number(), number()), 0..3))
            .prop_map(|(lane, below, also)| SessionMessage::Receipt(Receipt { lane, below, also })),
    ];
    let bytes = prop::collection::vec(prop_oneof![0..9u8, any::<u8>()], 0..40);
    (message, prop_oneof![9 => 0..3u8, 1 => any::<u8>()], bytes)
}
