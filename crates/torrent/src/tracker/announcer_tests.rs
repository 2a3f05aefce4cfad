//! Lives of announcers, in virtual time.

use std::time::{Duration, Instant};

use super::tier::BACKOFF_FIRST;
use super::{
    AnnounceEvent, AnnounceReply, Announcer, AnnouncerOutput, RequestId, ScrapeEntry, TrackerFault,
    TrackerState,
};
use crate::Rng;
use crate::swarm::tests::epoch;

fn announcer(tiers: &[&[&str]]) -> Announcer {
    let tiers = tiers.iter().map(|tier| tier.iter().map(|&url| url.to_owned()).collect()).collect();
    Announcer::new(tiers, Rng::from_seed(3))
}

fn asked(announcer: &mut Announcer, now: Instant) -> Option<(RequestId, String, AnnounceEvent)> {
    loop {
        match announcer.poll_output(now)? {
            AnnouncerOutput::Announce { id, url, event, .. } => return Some((id, url, event)),
            AnnouncerOutput::Peers(_) | AnnouncerOutput::Scrape { .. } => {}
        }
    }
}

fn ok(interval: u64) -> Result<AnnounceReply, TrackerFault> {
    Ok(AnnounceReply { interval: Duration::from_secs(interval), ..AnnounceReply::default() })
}

#[test]
fn going_on_while_the_leave_is_under_way_begins_anew() {
    for leave in [ok(1800), Err(TrackerFault::Silent)] {
        let (mut announcer, now) = (announcer(&[&["a"]]), epoch());
        announcer.start(now);
        let (id, _, _) = asked(&mut announcer, now).expect("due");
        announcer.handle_reply(now, id, ok(1800));
        announcer.stop(now);
        let (id, _, event) = asked(&mut announcer, now).expect("due");
        assert_eq!(event, AnnounceEvent::Stopped);
        announcer.start(now);
        announcer.handle_reply(now, id, leave);
        let (_, _, event) = asked(&mut announcer, now).expect("due at once");
        assert_eq!(event, AnnounceEvent::Started);
    }
}

#[test]
fn a_whole_life_tells_each_event_once() {
    let (mut announcer, mut now) = (announcer(&[&["a"]]), epoch());
    assert_eq!(announcer.poll_timeout(), None);
    announcer.start(now);
    let mut events = Vec::new();
    for step in 0..4 {
        let (id, _, event) = asked(&mut announcer, now).expect("due");
        events.push(event);
        assert_eq!(asked(&mut announcer, now), None, "one at a time");
        announcer.handle_reply(now, id, ok(1800));
        if step == 1 {
            announcer.completed(now);
        } else {
            now = announcer.poll_timeout().expect("again");
        }
    }
    announcer.stop(now);
    let (id, _, event) = asked(&mut announcer, now).expect("due");
    events.push(event);
    assert!(announcer.is_busy());
    announcer.handle_reply(now, id, ok(1800));
    assert!(!announcer.is_busy());
    assert_eq!(announcer.poll_timeout(), None);
    use AnnounceEvent as Event;
    assert_eq!(
        events,
        [Event::Started, Event::None, Event::Completed, Event::None, Event::Stopped]
    );
}

#[test]
fn what_was_completed_before_the_tracker_knew_of_us_is_told_before_we_leave() {
    let (mut announcer, now) = (announcer(&[&["a", "b"]]), epoch());
    announcer.start(now);
    let (id, _, _) = asked(&mut announcer, now).expect("due");
    announcer.completed(now);
    announcer.stop(now);
    announcer.handle_reply(now, id, ok(1800));
    let mut events = Vec::new();
    while let Some((id, _, event)) = asked(&mut announcer, now) {
        events.push(event);
        // Nobody is asked again and again who does not answer.
        announcer.handle_reply(now, id, Err(TrackerFault::Silent));
    }
    assert_eq!(events, [AnnounceEvent::Completed, AnnounceEvent::Stopped]);
    assert!(!announcer.is_busy());
    assert_eq!(announcer.poll_timeout(), None);
}

#[test]
fn what_was_completed_and_could_not_be_told_is_told_the_next_time() {
    let (mut announcer, now) = (announcer(&[&["a"]]), epoch());
    announcer.start(now);
    let (id, _, _) = asked(&mut announcer, now).expect("due");
    announcer.completed(now);
    announcer.stop(now);
    announcer.handle_reply(now, id, Err(TrackerFault::Silent));
    assert_eq!((asked(&mut announcer, now), announcer.poll_timeout()), (None, None));
    announcer.start(now);
    let mut events = Vec::new();
    while let Some((id, _, event)) = asked(&mut announcer, now) {
        events.push(event);
        announcer.handle_reply(now, id, ok(1800));
    }
    assert_eq!(events, [AnnounceEvent::Started, AnnounceEvent::Completed]);
}

#[test]
fn intervals_are_kept_within_reason() {
    for (said, low, high) in [(1800, 1700, 1900), (0, 55, 65), (u64::MAX, 80_000, 100_000)] {
        let (mut announcer, now) = (announcer(&[&["a"]]), epoch());
        announcer.start(now);
        let (id, ..) = asked(&mut announcer, now).expect("due");
        announcer.handle_reply(now, id, ok(said));
        let wait = (announcer.poll_timeout().expect("again") - now).as_secs();
        assert!((low..=high).contains(&wait), "{said}: {wait}");
    }
}

#[test]
fn within_a_tier_the_next_stands_in_and_stays() {
    let (mut announcer, now) = (announcer(&[&["a", "b", "c"]]), epoch());
    announcer.start(now);
    let (id, first, _) = asked(&mut announcer, now).expect("due");
    announcer.handle_reply(now, id, Err(TrackerFault::Silent));
    let (id, second, event) = asked(&mut announcer, now).expect("at once");
    assert_eq!(event, AnnounceEvent::Started);
    assert_ne!(first, second);
    announcer.handle_reply(now, id, ok(1800));
    let status = announcer.status();
    assert_eq!((status[0].url.as_str(), status[0].state), (second.as_str(), TrackerState::Working));
    let again = announcer.poll_timeout().expect("again");
    assert_eq!(asked(&mut announcer, again).expect("due").1, second);
}

#[test]
fn tiers_keep_their_order_and_within_one_the_order_is_drawn_once() {
    let tiers = [vec!["a", "b", "c", "d"], vec!["e", "f"]];
    let given: Vec<Vec<String>> = tiers
        .iter()
        .map(|tier| tier.iter().map(|&url| format!("http://{url}/announce")).collect())
        .collect();
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..1000 {
        let announcer = Announcer::new(given.clone(), Rng::from_seed(seed));
        let listed = |announcer: &Announcer| -> Vec<(usize, String)> {
            announcer.status().into_iter().map(|status| (status.tier, status.url)).collect()
        };
        let order = listed(&announcer);
        assert!(order.is_sorted_by_key(|(tier, _)| *tier));
        for (tier, urls) in given.iter().enumerate() {
            let mut found: Vec<&String> =
                order.iter().filter(|(of, _)| *of == tier).map(|(_, url)| url).collect();
            found.sort();
            assert!(found.into_iter().eq(urls), "tier {tier} of seed {seed}");
        }
        assert_eq!(listed(&announcer), order);
        orders.insert(order);
    }
    assert_eq!(orders.len(), 24 * 2, "every order comes up");
}

#[test]
fn when_all_of_a_tier_fail_it_waits_longer_each_round() {
    let (mut announcer, mut now) = (announcer(&[&["a", "b"]]), epoch());
    announcer.start(now);
    let mut waits = Vec::new();
    for _ in 0..12 {
        let (id, ..) = asked(&mut announcer, now).expect("due");
        announcer.handle_reply(now, id, Err(TrackerFault::Silent));
        let at = announcer.poll_timeout().expect("again");
        waits.push((at - now).as_secs());
        now = at;
    }
    assert_eq!(waits, [0, 30, 0, 60, 0, 120, 0, 240, 0, 480, 0, 960]);
}

#[test]
fn tiers_are_asked_side_by_side() {
    let (mut announcer, now) = (announcer(&[&["a"], &["b"]]), epoch());
    announcer.start(now);
    let urls: Vec<String> =
        std::iter::from_fn(|| asked(&mut announcer, now)).map(|(_, url, _)| url).collect();
    assert_eq!(urls, ["a", "b"]);
}

#[test]
fn what_cannot_be_asked_is_not_asked_again() {
    let (mut announcer, now) = (announcer(&[&["wss://x"]]), epoch());
    announcer.start(now);
    let (id, ..) = asked(&mut announcer, now).expect("due");
    announcer.handle_reply(now, id, Err(TrackerFault::UnsupportedScheme));
    assert_eq!((announcer.poll_timeout(), announcer.is_busy()), (None, false));
    announcer.stop(now);
    assert!(!announcer.is_busy());
}

#[test]
fn only_who_knows_of_us_hears_that_we_stop() {
    let (mut announcer, now) = (announcer(&[&["a"], &["b"]]), epoch());
    announcer.start(now);
    let (a, ..) = asked(&mut announcer, now).expect("due");
    let (b, ..) = asked(&mut announcer, now).expect("due");
    announcer.handle_reply(now, a, Err(TrackerFault::Silent));
    announcer.stop(now);
    assert_eq!(asked(&mut announcer, now), None);
    announcer.handle_reply(now, b, ok(1800));
    let (id, url, event) = asked(&mut announcer, now).expect("it heard of us meanwhile");
    assert_eq!((url.as_str(), event), ("b", AnnounceEvent::Stopped));
    announcer.handle_reply(now, id, Err(TrackerFault::Silent));
    assert!(!announcer.is_busy());
}

#[test]
fn impatience_respects_the_tracker() {
    let (mut announcer, now) = (announcer(&[&["a"]]), epoch());
    announcer.start(now);
    let (id, ..) = asked(&mut announcer, now).expect("due");
    let reply = AnnounceReply {
        interval: Duration::from_secs(1800),
        min_interval: Some(Duration::from_secs(300)),
        peers: vec!["10.0.0.1:1".parse().expect("valid")],
        ..AnnounceReply::default()
    };
    announcer.handle_reply(now, id, Ok(reply.clone()));
    assert_eq!(announcer.poll_output(now), Some(AnnouncerOutput::Peers(reply.peers)));
    announcer.announce_now(now);
    assert_eq!(announcer.poll_timeout(), Some(now + Duration::from_secs(300)));
}

#[test]
fn whoever_knows_of_us_is_told_at_once_that_we_are_elsewhere() {
    let (mut announcer, now) = (announcer(&[&["a"], &["b"]]), epoch());
    announcer.start(now);
    let (first, ..) = asked(&mut announcer, now).expect("asked");
    let (second, ..) = asked(&mut announcer, now).expect("asked");
    let reply = AnnounceReply {
        interval: Duration::from_secs(900),
        min_interval: Some(Duration::from_secs(900)),
        ..AnnounceReply::default()
    };
    announcer.handle_reply(now, first, Ok(reply.clone()));
    announcer.moved(now);
    let again = asked(&mut announcer, now).expect("asked");
    assert_eq!((again.1.as_str(), again.2), ("a", AnnounceEvent::None));
    announcer.handle_reply(now, second, Ok(reply.clone()));
    let (second, url, _) = asked(&mut announcer, now).expect("asked");
    assert_eq!(url, "b", "what it was being told is no longer so");
    announcer.handle_reply(now, second, Ok(reply));
    assert!(asked(&mut announcer, now).is_none());
}

#[test]
fn counts_come_by_scrape_where_the_announce_has_none() {
    let (mut announcer, now) = (announcer(&[&["a"], &["b"]]), epoch());
    announcer.start(now);
    let (first, ..) = asked(&mut announcer, now).expect("asked");
    let (second, ..) = asked(&mut announcer, now).expect("asked");
    let counted = AnnounceReply {
        complete: Some(3),
        incomplete: Some(4),
        interval: Duration::from_secs(900),
        ..AnnounceReply::default()
    };
    announcer.handle_reply(now, first, Ok(counted));
    assert_eq!(announcer.poll_output(now), None);
    announcer.handle_reply(now, second, ok(900));
    let scrape = AnnouncerOutput::Scrape { url: "b".to_owned() };
    assert_eq!(announcer.poll_output(now), Some(scrape));
    // Asked for once more by a person: the one under way is enough for `b`.
    announcer.scrape();
    let scrape = AnnouncerOutput::Scrape { url: "a".to_owned() };
    assert_eq!(announcer.poll_output(now), Some(scrape));
    assert_eq!(announcer.poll_output(now), None);
    let counts = ScrapeEntry { complete: 5, downloaded: 9, incomplete: 6 };
    announcer.handle_scrape("b", Ok(counts));
    announcer.handle_scrape("a", Err(TrackerFault::Silent));
    let seeds: Vec<_> = announcer.status().into_iter().map(|tracker| tracker.seeds).collect();
    assert_eq!(seeds, [Some(3), Some(5)]);
    assert!(announcer.status().iter().all(|tracker| tracker.state == TrackerState::Working));
}

#[test]
fn a_tier_that_is_added_is_asked_at_once_and_the_others_are_not() {
    let (mut announcer, now) = (announcer(&[&["a"]]), epoch());
    announcer.add_tier(now, vec!["b".to_owned()]);
    assert_eq!(announcer.poll_timeout(), None);
    announcer.start(now);
    let all = [asked(&mut announcer, now), asked(&mut announcer, now)].map(Option::unwrap);
    for (id, _, _) in all {
        announcer.handle_reply(now, id, ok(900));
        while announcer.poll_output(now).is_some() {}
    }
    announcer.add_tier(now, Vec::new());
    announcer.add_tier(now, vec!["c".to_owned()]);
    let (_, url, event) = asked(&mut announcer, now).expect("asked");
    assert_eq!((url.as_str(), event), ("c", AnnounceEvent::Started));
    assert_eq!(asked(&mut announcer, now), None);
    let urls: Vec<_> = announcer.status().into_iter().map(|tracker| tracker.url).collect();
    assert_eq!(urls, ["a", "b", "c"]);
}

#[test]
fn a_tier_that_goes_is_told_so_once_and_the_others_go_on() {
    let (mut announcer, now) = (announcer(&[&["a"], &["b"], &["c"]]), epoch());
    announcer.start(now);
    let all = [(); 3].map(|()| asked(&mut announcer, now).expect("asked"));
    for (id, url, _) in &all[..2] {
        announcer.handle_reply(now, *id, ok(if url == "a" { 900 } else { 1800 }));
        while announcer.poll_output(now).is_some() {}
    }
    announcer.completed(now);
    announcer.keep_tiers(1);
    // The third has not answered; what it was told may have arrived.
    for gone in ["b", "c"] {
        let (id, url, event) = asked(&mut announcer, now).expect("told");
        assert_eq!((url.as_str(), event), (gone, AnnounceEvent::Stopped));
        announcer.handle_reply(now, id, ok(900));
    }
    announcer.handle_reply(now, all[2].0, ok(900));
    let (_, url, event) = asked(&mut announcer, now).expect("asked");
    assert_eq!((url.as_str(), event), ("a", AnnounceEvent::Completed));
    assert_eq!(asked(&mut announcer, now), None);
    announcer.keep_tiers(2);
    let urls: Vec<_> = announcer.status().into_iter().map(|tracker| tracker.url).collect();
    assert_eq!(urls, ["a"]);
}

#[test]
fn a_tracker_of_an_unknown_kind_makes_nobody_impatient() {
    for urls in [&["a", "wss"][..], &["a", "b", "wss"], &["wss", "a"]] {
        let (mut announcer, mut now) = (announcer(&[urls]), epoch());
        announcer.start(now);
        let begun = now;
        for _ in 0..12 {
            while let Some((id, url, _)) = asked(&mut announcer, now) {
                let fault = match url.as_str() {
                    "wss" => TrackerFault::UnsupportedScheme,
                    _ => TrackerFault::Silent,
                };
                announcer.handle_reply(now, id, Err(fault));
            }
            now = announcer.poll_timeout().expect("it goes on");
        }
        assert!(now >= begun + BACKOFF_FIRST * 64, "{urls:?}: {:?}", now - begun);
    }
}
