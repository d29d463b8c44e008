//! Many messages in one call.

use std::collections::VecDeque;

use super::*;
use crate::CommandError;

fn batch(lens: &[usize]) -> VecDeque<Bytes> {
    lens.iter().map(|len| vec![7; *len].into()).collect()
}

fn send_batch(net: &mut Net, to: Id, messages: &mut VecDeque<Bytes>) -> Result<Sends, CommandError> {
    let now = net.now;
    net.node(2).send_batch(now, to, messages, SendOptions::default())
}

#[test]
fn a_batch_goes_as_far_as_there_is_room_and_is_news_together() {
    let mut net = Net::cluster_with(Config { max_queued_messages: 3, ..Config::default() }, 1, 2);
    net.run(secs(5));
    let to = net.id(1);
    net.send(2, 1, "the first one begins the conversation");
    net.run(secs(1));
    let mut messages = batch(&[1, 2, 3, 4]);
    let sends = send_batch(&mut net, to, &mut messages).unwrap();
    assert_eq!((sends.count, messages.len()), (3, 1));
    let blocked = CommandError::Blocked { to, data: messages[0].clone() };
    assert_eq!((send_batch(&mut net, to, &mut messages), messages.len()), (Err(blocked), 1));
    net.take_events(1);
    net.take_events(2);
    net.run(secs(1));
    let lens = |event| if let Event::Messages { data, .. } = event { Some(data.len()) } else { None };
    assert_eq!(net.take_events(1).into_iter().filter_map(lens).collect::<Vec<_>>(), [3]);
    let events = net.take_events(2);
    assert!(events.contains(&Event::Outcome { sends, to, outcome: Outcome::Delivered }), "{events:?}");
    assert!(events.contains(&Event::Unblocked { to }), "{events:?}");
    let last = send_batch(&mut net, to, &mut messages).unwrap();
    assert_eq!((last.first, last.count, messages.len()), (sends.behind(), 1, 0));
    assert_eq!(send_batch(&mut net, to, &mut messages).map(|none| none.count), Ok(0));
}

#[test]
fn what_is_wrong_with_the_first_of_a_batch_is_said_and_nothing_is_taken() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(5));
    let (to, own) = (net.id(1), net.id(2));
    let max = Config::default().max_message;
    let mut messages = batch(&[1, max + 1, 1]);
    assert_eq!(send_batch(&mut net, to, &mut messages).map(|sends| sends.count), Ok(1));
    assert_eq!(send_batch(&mut net, to, &mut messages), Err(CommandError::TooLarge { len: max + 1, max }));
    assert_eq!(messages.len(), 2);
    messages.pop_front();
    let now = net.now;
    let no_lane = SendOptions::default().lane(200);
    assert!(matches!(net.node(2).send_batch(now, to, &mut messages, no_lane), Err(CommandError::NoSuchLane { .. })));
    let over = SendOptions { ttl: Some(Duration::ZERO), ..SendOptions::default() };
    assert_eq!(net.node(2).send_batch(now, to, &mut messages, over).map(|sends| sends.count), Ok(1));
    // to itself, and to whom nobody knows
    net.run(Duration::from_millis(100));
    net.take_events(2);
    for to in [own, Identity::new(Role::Peer, SecretKey::from_bytes([99; 32])).id()] {
        assert_eq!(send_batch(&mut net, to, &mut batch(&[1, 1])).map(|sends| sends.count), Ok(1));
    }
    net.run(secs(1));
    assert_eq!(net.outcomes(2).len(), 2);
    net.node(2).stop(now);
    assert_eq!(send_batch(&mut net, to, &mut batch(&[1])), Err(CommandError::Stopped));
}
