//! What the timing wheel promises, and the same as a plain ordered map would do.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn they_fire_in_order_of_time_then_of_age() {
    let now = Instant::now();
    let (late, mut wheel) = (now + SECOND, TimerWheel::new(now));
    wheel.add(late, "late");
    wheel.add(now, "first");
    wheel.add(now, "second");
    wheel.add(now - SECOND, "of the past");
    let mark = wheel.mark();
    let mut take = |now| wheel.take_due(now, mark).map(|(_, item)| item);
    assert_eq!(take(now), Some("of the past"));
    assert_eq!((take(now), take(now), take(now)), (Some("first"), Some("second"), None));
    assert_eq!(take(late - Duration::from_nanos(1)), None);
    // A clock that steps back does no harm.
    assert_eq!((take(now), take(late), take(late)), (None, Some("late"), None));
}

#[test]
fn one_that_a_timer_adds_waits_for_the_next_turn_and_holds_up_no_older_one() {
    let now = Instant::now();
    let (soon, mut wheel) = (now + SECOND, TimerWheel::new(now));
    wheel.add(now, "older");
    wheel.add(soon, "later but older");
    let mark = wheel.mark();
    assert_eq!(wheel.take_due(now, mark).map(|(_, item)| item), Some("older"));
    wheel.add(now, "younger");
    assert_eq!(wheel.take_due(soon, mark).map(|(_, item)| item), Some("later but older"));
    assert_eq!((wheel.take_due(soon, mark), wheel.next_at()), (None, Some(now)));
    let mark = wheel.mark();
    assert_eq!(wheel.take_due(soon, mark).map(|(_, item)| item), Some("younger"));
}

#[test]
fn an_id_is_harmless_once_its_timer_is_over() {
    let now = Instant::now();
    let mut wheel = TimerWheel::new(now);
    let cancelled = wheel.add(now + SECOND, "cancelled");
    assert!(wheel.contains(cancelled));
    assert_eq!((wheel.cancel(cancelled), wheel.cancel(cancelled)), (Some("cancelled"), None));
    let fired = wheel.add(now, "fired");
    assert_eq!(wheel.take_due(now, wheel.mark()), Some((fired, "fired")));
    let same_slot = wheel.add(now, "other");
    assert_eq!((wheel.cancel(cancelled), wheel.cancel(fired)), (None, None));
    assert!(wheel.contains(same_slot) && !wheel.contains(cancelled) && !wheel.contains(fired));
    assert_eq!(wheel.len(), 1);
}

#[test]
fn deadlines_that_are_met_in_order_of_age_leave_nothing_to_search() {
    let now = Instant::now();
    let mut wheel = TimerWheel::new(now);
    let at = |millis| now + Duration::from_secs(30) + Duration::from_millis(millis);
    let ids: Vec<TimerId> = (0..1000).map(|millis| wheel.add(at(millis), ())).collect();
    for (millis, id) in (0..).zip(ids) {
        assert!(wheel.is_next_exact());
        assert_eq!(wheel.next_at(), Some(at(millis)));
        wheel.cancel(id);
    }
    assert_eq!(wheel.next_at(), None);
}

#[test]
fn only_the_cancelled_earliest_of_an_unordered_bucket_is_searched_for_and_once() {
    let now = Instant::now();
    let mut wheel = TimerWheel::new(now);
    let at = |millis| now + Duration::from_secs(30) + Duration::from_millis(millis);
    let [middle, earliest, _] = [2, 1, 3].map(|millis| wheel.add(at(millis), ()));
    wheel.cancel(earliest);
    assert_eq!((wheel.is_next_exact(), wheel.next_at_least()), (false, Some(at(1))));
    assert_eq!((wheel.next_at(), wheel.is_next_exact()), (Some(at(2)), true));
    assert_eq!(wheel.next_at_least(), Some(at(2)));
    wheel.cancel(middle);
    // A new one that is earlier is known to be the earliest.
    wheel.add(at(1), ());
    assert_eq!((wheel.is_next_exact(), wheel.next_at_least()), (true, Some(at(1))));
}

#[test]
fn memory_is_bounded_by_the_most_that_were_pending_at_once() {
    let now = Instant::now();
    let mut wheel = TimerWheel::new(now);
    let kept = wheel.add(now, 0);
    for round in 0..1000 {
        let delay = SECOND * (round % 2);
        let ids: Vec<TimerId> = (0..10).map(|item| wheel.add(now + delay, item)).collect();
        assert_eq!(wheel.take_due(now - SECOND, wheel.mark()), None);
        assert_eq!(ids.into_iter().filter_map(|id| wheel.cancel(id)).count(), 10);
        assert_eq!((wheel.nodes.len(), wheel.len()), (11, 1));
        assert!(wheel.reached.len() + wheel.young.len() <= 2, "one is there, one may be stale");
    }
    assert_eq!((wheel.cancel(kept), wheel.next_at(), wheel.len()), (Some(0), None, 0));
    assert!(wheel.reached.is_empty() && wheel.young.is_empty());
}

#[test]
fn a_timer_takes_32_bytes_beside_its_item() {
    assert_eq!(size_of::<Node<Box<dyn Fn()>>>(), 32 + size_of::<Box<dyn Fn()>>());
}

#[test]
fn centuries_later_it_is_still_exact() {
    let start = Instant::now();
    let mut wheel = TimerWheel::new(start);
    let last = start + Duration::from_nanos(i64::MAX as u64);
    wheel.add(last + SECOND, "beyond");
    wheel.add(last - Duration::from_nanos(1), "just before");
    assert_eq!(wheel.next_at(), Some(last - Duration::from_nanos(1)));
    let mark = wheel.mark();
    assert_eq!(wheel.take_due(last - Duration::from_nanos(2), mark), None);
    assert!(wheel.take_due(last - Duration::from_nanos(1), mark).is_some());
    assert_eq!((wheel.next_at(), wheel.take_due(start, mark)), (Some(last), None));
    assert!(wheel.take_due(last, mark).is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Add { delay: i64 },
    Cancel(Index),
    CancelNext,
    Pass { span: i64 },
    PassToNext { and: i64 },
    Mark,
    OldMark(Index),
    Take { count_max: usize },
    AskForNext,
}

fn any_span() -> impl Strategy<Value = i64> {
    const NANOS_PER_SECOND: i64 = 1_000_000_000;
    prop_oneof![
        Just(0),
        0..1000_i64,
        0..1_000_000_i64,
        Just(NANOS_PER_SECOND),
        0..100 * NANOS_PER_SECOND,
        0..1_000_000 * NANOS_PER_SECOND,
        // Not more, or two hundred steps lead beyond the last nanosecond.
        0..45_000_000 * NANOS_PER_SECOND,
        -NANOS_PER_SECOND..0,
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any_span().prop_map(|delay| Step::Add { delay }),
        2 => any::<Index>().prop_map(Step::Cancel),
        2 => Just(Step::CancelNext),
        1 => any_span().prop_map(|span| Step::Pass { span }),
        2 => (-1..=1_i64).prop_map(|and| Step::PassToNext { and }),
        2 => Just(Step::Mark),
        1 => any::<Index>().prop_map(Step::OldMark),
        4 => (0..8_usize).prop_map(|count_max| Step::Take { count_max }),
        1 => Just(Step::AskForNext),
    ]
}

proptest! {
    /// What a sorted map does at more expense.
    #[test]
    fn it_does_what_a_sorted_map_does(steps in proptest::collection::vec(any_step(), 0..200)) {
        let start = Instant::now();
        let later = |at: Instant, nanos: i64| {
            let span = Duration::from_nanos(nanos.unsigned_abs());
            if nanos < 0 { at - span } else { at + span }
        };
        let (mut wheel, mut model) = (TimerWheel::new(start), BTreeMap::new());
        let (mut ids, mut mark, mut now) = (Vec::new(), 0, start);
        for step in steps {
            let next = model.first_key_value().map(|(&key, &id)| (key, id));
            match step {
                Step::Add { delay } => {
                    let (at, number) = (later(now, delay), ids.len() as u64);
                    let id = wheel.add(at, number);
                    model.insert((at, number), id);
                    ids.push((id, (at, number)));
                }
                Step::Cancel(index) if !ids.is_empty() => {
                    let (id, key) = *index.get(&ids);
                    let expected = model.remove(&key).map(|_| key.1);
                    prop_assert_eq!(wheel.contains(id), expected.is_some());
                    prop_assert_eq!(wheel.cancel(id), expected);
                }
                Step::CancelNext => if let Some((key, id)) = next {
                    model.remove(&key);
                    prop_assert_eq!(wheel.cancel(id), Some(key.1));
                }
                Step::Pass { span } => now = later(now, span),
                Step::PassToNext { and } => if let Some(((at, _), _)) = next {
                    now = later(at, and);
                }
                Step::Mark => mark = wheel.mark(),
                Step::OldMark(index) => mark = index.index(ids.len() + 1) as u64,
                Step::Take { count_max } => for _ in 0..count_max {
                    let due = model
                        .iter()
                        .take_while(|((at, _), _)| *at <= now)
                        .find(|((_, number), _)| *number < mark)
                        .map(|(&key, &id)| (key, id));
                    if let Some((key, _)) = due {
                        model.remove(&key);
                    }
                    let expected = due.map(|((_, number), id)| (id, number));
                    prop_assert_eq!(wheel.take_due(now, mark), expected);
                }
                Step::AskForNext => {
                    prop_assert_eq!(wheel.next_at(), next.map(|((at, _), _)| at));
                    prop_assert!(wheel.is_next_exact());
                }
                Step::Cancel(_) => {}
            }
            let next = model.first_key_value().map(|(&(at, _), _)| at);
            let at_least = wheel.next_at_least();
            prop_assert_eq!((wheel.len(), at_least.is_some()), (model.len(), next.is_some()));
            prop_assert!(at_least == next || at_least < next && !wheel.is_next_exact());
            prop_assert!(wheel.stale <= (wheel.reached.len() + wheel.young.len()) / 2);
        }
    }
}
