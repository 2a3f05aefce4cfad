//! How much of the processor and of the disk a thread gets while others want them too.

/// Has the calling thread give way to others: `nice` from 0, which changes nothing, to 19, and, with
/// `idle_io`, reading from a disk only when nobody else does. What the system refuses is left as it is.
///
/// Linux counts both by threads. Elsewhere a priority is the process's, and nothing is done.
pub fn lower_priority(nice: u8, idle_io: bool) {
    #[cfg(target_os = "linux")]
    linux::lower_priority(nice, idle_io);
    #[cfg(not(target_os = "linux"))]
    let _ = (nice, idle_io);
}

#[cfg(target_os = "linux")]
mod linux {
    use nix::libc;
    use rustix::process::{getpriority_process, setpriority_process};

    pub(super) fn lower_priority(nice: u8, idle_io: bool) {
        let nice = i32::from(nice.min(NICE_MAX));
        if nice > 0 {
            let thread = Some(rustix::thread::gettid());
            // A program that was started with less stays there.
            let lowered = getpriority_process(thread)
                .and_then(|now| setpriority_process(thread, nice.max(now)));
            if let Err(error) = lowered {
                tracing::debug!(%error, "the priority of a thread stays as it is");
            }
        }
        if idle_io && !set_idle_io() {
            tracing::debug!("the disk priority of a thread stays as it is");
        }
    }

    #[expect(unsafe_code, reason = "no library at hand wraps ioprio_set")]
    fn set_idle_io() -> bool {
        // SAFETY: the call takes three numbers, touches no memory of ours, and changes only how the
        // kernel orders this thread's requests.
        unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, THIS_THREAD, CLASS_IDLE) == 0 }
    }

    const NICE_MAX: u8 = 19;
    // From linux/ioprio.h.
    const WHO_PROCESS: libc::c_int = 1;
    const THIS_THREAD: libc::c_int = 0;
    const CLASS_IDLE: libc::c_int = 3 << 13;
}
