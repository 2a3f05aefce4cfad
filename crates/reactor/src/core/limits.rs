//! How fast connections go: the buckets they draw on.

use super::{Bucket, Core, Due, Entry};
use crate::timer_wheel::TimerWheel;
use crate::{Direction, Rate, Token};

impl Core {
    pub(crate) fn add_bucket(&mut self, rate: Rate) -> u32 {
        let bucket = Bucket::new(rate, self.now);
        let free = self.buckets.iter().position(Option::is_none);
        let number = free.unwrap_or(self.buckets.len());
        if free.is_none() {
            self.buckets.push(None);
        }
        self.buckets[number] = Some(bucket);
        number as u32
    }

    pub(crate) fn bucket_mut(&mut self, number: u32) -> Option<&mut Bucket> {
        self.buckets.get_mut(number as usize)?.as_mut()
    }

    pub(crate) fn drop_bucket_user(&mut self, number: u32) {
        drop_bucket_user(&mut self.buckets, &mut self.timers, number);
    }

    /// How many bytes all of these buckets let through. If none, the connection waits for the first
    /// that is empty.
    pub(crate) fn allowance(&mut self, token: Token, direction: Direction) -> usize {
        let Self { slots, buckets, timers, now, .. } = self;
        let Some(Entry::Stream(stream)) =
            slots.get_mut(token.slot as usize).and_then(|slot| slot.entry.as_mut())
        else {
            return 0;
        };
        let Some(extras) = &stream.extras else { return usize::MAX };
        let numbers = match direction {
            Direction::Read => &extras.read_buckets,
            Direction::Write => &extras.write_buckets,
        };
        let mut least = usize::MAX;
        for number in numbers {
            let Some(bucket) = &mut buckets[*number as usize] else { continue };
            let available = bucket.available(*now);
            if available == 0 {
                bucket.waiting.push_back((token, direction));
                if bucket.timer.is_none() {
                    bucket.timer = Some(timers.add(bucket.ready_at(), Due::Bucket(*number)));
                }
                match direction {
                    Direction::Read => stream.reads_wait = true,
                    Direction::Write => stream.writes_wait = true,
                }
                return 0;
            }
            least = least.min(available);
        }
        least
    }

    pub(crate) fn draw(&mut self, token: Token, direction: Direction, bytes: usize) {
        let Self { slots, buckets, draws, .. } = self;
        let Some(Entry::Stream(stream)) =
            slots.get_mut(token.slot as usize).and_then(|slot| slot.entry.as_mut())
        else {
            return;
        };
        let Some(extras) = &mut stream.extras else { return };
        let (numbers, drawn) = match direction {
            Direction::Read => (&extras.read_buckets, &mut extras.read_drawn),
            Direction::Write => (&extras.write_buckets, &mut extras.write_drawn),
        };
        *draws += 1;
        *drawn = *draws;
        for number in numbers {
            if let Some(bucket) = &mut buckets[*number as usize] {
                bucket.draw(bytes);
            }
        }
    }

    /// A bucket has filled: whoever waited may try. The first may well take all there is, so that is who
    /// has gone without for longest.
    pub(crate) fn bucket_filled(&mut self, number: u32) {
        let Some(bucket) = self.bucket_mut(number) else { return };
        bucket.timer = None;
        let mut waiting = std::mem::take(&mut bucket.waiting);
        waiting.make_contiguous().sort_by_key(|(token, direction)| {
            let extras = self.stream(*token).and_then(|stream| stream.extras.as_ref());
            extras.map_or(0, |extras| match direction {
                Direction::Read => extras.read_drawn,
                Direction::Write => extras.write_drawn,
            })
        });
        for (token, direction) in waiting {
            self.let_go(token, direction);
        }
    }

    /// A rate limit holds a connection back no longer.
    pub(crate) fn let_go(&mut self, token: Token, direction: Direction) {
        let Some(stream) = self.stream_mut(token) else { return };
        match direction {
            Direction::Read => stream.reads_wait = false,
            Direction::Write => stream.writes_wait = false,
        }
        if stream.has_task {
            self.wake_stream(token, direction == Direction::Read, direction == Direction::Write);
        }
        match direction {
            Direction::Read => self.list(token),
            Direction::Write => self.soil(token),
        }
    }

    pub(crate) fn set_rate(&mut self, token: Token, direction: Direction, rate: Option<Rate>) {
        let Some(stream) = self.stream_mut(token) else { return };
        let extras = stream.extras();
        let buckets = match direction {
            Direction::Read => &mut extras.read_buckets,
            Direction::Write => &mut extras.write_buckets,
        };
        for bucket in std::mem::take(buckets) {
            self.drop_bucket_user(bucket);
        }
        if let Some(rate) = rate {
            let bucket = self.add_bucket(rate);
            self.draw_on(token, direction, bucket);
        }
        self.let_go(token, direction);
    }

    pub(crate) fn join(&mut self, token: Token, direction: Direction, bucket: u32) {
        if let Some(shared) = self.bucket_mut(bucket) {
            shared.users += 1;
            self.draw_on(token, direction, bucket);
        }
    }

    pub(crate) fn draw_on(&mut self, token: Token, direction: Direction, bucket: u32) {
        let Some(stream) = self.stream_mut(token) else { return self.drop_bucket_user(bucket) };
        let extras = stream.extras();
        match direction {
            Direction::Read => extras.read_buckets.push(bucket),
            Direction::Write => extras.write_buckets.push(bucket),
        }
    }
}

pub(super) fn drop_bucket_user(
    buckets: &mut [Option<Bucket>],
    timers: &mut TimerWheel<Due>,
    number: u32,
) {
    let Some(slot) = buckets.get_mut(number as usize) else { return };
    let Some(bucket) = slot else { return };
    bucket.users -= 1;
    if bucket.users == 0 {
        if let Some(timer) = bucket.timer {
            timers.cancel(timer);
        }
        *slot = None;
    }
}
