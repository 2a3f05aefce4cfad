//! Ctrl-C and its kin: before anything has begun, the first ends the process at
//! once; later it asks to end in order, and only the second ends at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Whether someone wants us to end. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    flag: Arc<AtomicBool>,
    /// The flag tells of signals: before, it is set so that the first ends the process.
    is_orderly: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens to the signals.
    ///
    /// # Errors
    /// If the system does not let us.
    pub(crate) fn install() -> io::Result<Self> {
        let interrupt = Self::hasty()?;
        interrupt.in_order();
        Ok(interrupt)
    }

    /// Listens to the signals, of which the first ends the process at once: nothing has begun that would want to be
    /// ended in order, and what is under way may wait for a server that does not answer.
    ///
    /// # Errors
    /// If the system does not let us.
    pub(crate) fn hasty() -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(true));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the second signal finds the flag set.
            signal_hook::flag::register_conditional_shutdown(
                signal,
                INTERRUPTED,
                Arc::clone(&flag),
            )?;
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self { flag, is_orderly: Arc::default() })
    }

    /// From now on the first signal asks to end in order. Said again, it does not unsay a signal.
    pub(crate) fn in_order(&self) {
        if !self.is_orderly.swap(true, Ordering::Relaxed) {
            self.flag.store(false, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Ends the process a second after it was asked to end, if it has not. For work whose threads may
    /// wait for a disk or a server that does not answer: no flag reaches them there.
    ///
    /// # Errors
    /// If the system gives us no thread.
    pub(crate) fn insist(&self) -> io::Result<()> {
        let interrupt = self.clone();
        let wait = move || {
            while !interrupt.is_set() {
                thread::sleep(TICK);
            }
            thread::sleep(PATIENCE);
            std::process::exit(INTERRUPTED);
        };
        thread::Builder::new().name("interrupt".to_owned()).spawn(wait)?;
        Ok(())
    }

    /// For work that looks at it now and then.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.flag
    }
}

/// The exit status of an interrupted command.
pub(crate) const INTERRUPTED: i32 = 130;
const TICK: Duration = Duration::from_millis(100);
/// More than any work needs between two looks at the flag.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_not_forgotten_when_the_next_thing_begins() {
        let interrupt = Interrupt { flag: Arc::new(true.into()), is_orderly: Arc::default() };
        interrupt.in_order();
        assert!(!interrupt.is_set());
        interrupt.flag().store(true, Ordering::Relaxed);
        interrupt.in_order();
        assert!(interrupt.is_set());
    }
}
