//! Tasks, timers and sockets alone.

use std::{
    future::poll_fn,
    io,
    net::UdpSocket,
    task::Poll,
    time::{Duration, Instant},
};

use super::{MakeRuntime, world::World};
use crate::UdpIo;

/// A timer fires at its time, can be moved both ways, and works again after it fired.
pub fn a_timer_fires_and_can_be_moved(make: MakeRuntime<'_>) {
    let world = World::new(make);
    world.run("a timer", async {
        let mut timer = world.runtime.timer(Instant::now() + Duration::from_secs(3_600));
        for wait in [30, 10] {
            let at = Instant::now() + Duration::from_millis(wait);
            timer.as_mut().reset(at);
            timer.as_mut().await;
            assert!(Instant::now() >= at, "never before its time");
        }
        timer.as_mut().reset(Instant::now());
        timer.as_mut().await;
    });
}

/// Tasks that wait for each other all get their turn.
pub fn tasks_run_side_by_side(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let (sender, receiver) = async_channel::bounded::<u32>(1);
    let (back, result) = async_channel::bounded(1);
    world.runtime.spawn(Box::pin(async move {
        let mut sum = 0;
        while let Ok(number) = receiver.recv().await {
            sum += number;
        }
        back.send(sum).await.expect("somebody waits");
    }));
    for _ in 0..4 {
        let sender = sender.clone();
        world.runtime.spawn(Box::pin(async move {
            for number in 0..100 {
                sender.send(number).await.expect("the reader is there");
            }
        }));
    }
    drop(sender);
    assert_eq!(world.run("the sum", result.recv()), Ok(4 * 4_950));
}

/// A read that would block is followed by readiness as soon as there is something; a writable socket says so.
pub fn a_socket_says_when_it_is_ready(make: MakeRuntime<'_>) {
    let world = World::new(make);
    let socket = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_nonblocking(true).expect("non-blocking");
        socket
    };
    let (one, two) = (socket(), socket());
    let (from, to) = (one.local_addr().expect("an address"), two.local_addr().expect("an address"));
    let (raw, sender) = (two.try_clone().expect("a clone"), world.runtime.udp(one).expect("registered"));
    let mut receiver = world.runtime.udp(two).expect("registered");
    let read = |receiver: &mut Box<dyn UdpIo>| {
        let mut bytes = [0; 10];
        receiver.try_read(&mut |_| raw.recv_from(&mut bytes).map(|(len, _)| len))
    };
    for _ in 0..3 {
        world.run("readiness", async {
            let mut sender = Some(&sender);
            poll_fn(|cx| {
                loop {
                    match read(&mut receiver) {
                        Ok(len) => {
                            assert_eq!(len, 3);
                            return Poll::Ready(());
                        }
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                    }
                    match receiver.poll_readable(cx) {
                        Poll::Ready(ready) => ready.expect("a reactor"),
                        Poll::Pending => {
                            // only now, when the task waits
                            if sender.take().is_some() {
                                let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                                other.send_to(b"abc", to).expect("sent");
                            }
                            return Poll::Pending;
                        }
                    }
                }
            })
            .await;
        });
    }
    let mut sender = sender;
    world.run("writability", async {
        poll_fn(|cx| {
            loop {
                let mut written = 0;
                let result = sender.try_write(&mut |_| {
                    written += 1;
                    Ok(())
                });
                match result {
                    Ok(()) => {
                        assert_eq!(written, 1);
                        return Poll::Ready(());
                    }
                    Err(_) => match sender.poll_writable(cx) {
                        Poll::Ready(ready) => ready.expect("a reactor"),
                        Poll::Pending => return Poll::Pending,
                    },
                }
            }
        })
        .await;
    });
    assert_ne!(from, to);
}
