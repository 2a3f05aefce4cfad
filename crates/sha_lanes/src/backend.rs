//! What this processor can hash with, and what each way costs beside the others.

use crate::LANES_MAX;

/// A way of hashing that some processors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// One message after the other, everywhere: with the SHA instructions of x86 or ARMv8 if the
    /// processor has them, else without.
    Single,
    /// SHA-256 of two messages side by side with the SHA instructions of x86. SHA-1 is as with
    /// [`Single`](Self::Single).
    Pairs,
    /// 8 or 16 messages in the registers of AVX2.
    Avx2,
    /// 16 messages in the registers of AVX-512, and 32 with SHA-256.
    Avx512,
    /// 4 messages in the registers of NEON.
    Neon,
}

impl Backend {
    /// All backends, whether this processor has them or not.
    pub const ALL: [Self; 5] = [Self::Single, Self::Pairs, Self::Avx2, Self::Avx512, Self::Neon];

    /// The backends that this processor has.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|backend| backend.is_available()).collect()
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Single => true,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => has_sha_instructions(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Pairs | Self::Avx2 | Self::Avx512 => false,
            #[cfg(not(target_arch = "aarch64"))]
            Self::Neon => false,
        }
    }
}

/// Whether a message alone is hashed by the processor's own instructions for it.
pub(crate) fn has_sha_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("sha2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

/// Takes the states of some messages, 1 to its lanes, through as many blocks of each as the
/// shortest has. It may be called only where its backend is available.
pub(crate) type Compress<const WORDS: usize> = unsafe fn(&mut [[u32; WORDS]], &[&[[u8; 64]]]);

/// One function that hashes some messages at once.
#[derive(Clone, Copy)]
pub(crate) struct Kernel<const WORDS: usize> {
    pub(crate) backend: Backend,
    pub(crate) lanes: usize,
    /// What one call takes, in hundredths of what one message alone takes with SHA instructions.
    /// It is the same however few of the lanes are used.
    pub(crate) cost: u32,
    pub(crate) compress: Compress<WORDS>,
}

/// Which kernel is next for each number of messages that there still are: the way through all of
/// them that costs the least.
pub(crate) struct Plan<const WORDS: usize> {
    next: Vec<Kernel<WORDS>>,
    cost: Vec<u32>,
}

impl<const WORDS: usize> Plan<WORDS> {
    /// # Panics
    /// If there is no kernel, or one that this processor does not have.
    pub(crate) fn new(kernels: &[Kernel<WORDS>]) -> Self {
        assert!(kernels.iter().all(|kernel| kernel.backend.is_available()), "the processor has it");
        let mut plan = Self { next: Vec::new(), cost: vec![0] };
        for count in 1..=LANES_MAX {
            let cost =
                |kernel: &Kernel<WORDS>| kernel.cost + plan.cost[count - count.min(kernel.lanes)];
            let best = *kernels.iter().min_by_key(|kernel| cost(kernel)).expect("a kernel");
            let cost = cost(&best);
            plan.cost.push(cost);
            plan.next.push(best);
        }
        plan
    }

    /// The kernel to use while `count` messages have blocks left.
    pub(crate) fn next(&self, count: usize) -> &Kernel<WORDS> {
        &self.next[count - 1]
    }

    /// How many messages at once cost the least each.
    pub(crate) fn lanes(&self) -> usize {
        let each = |count: &usize| self.cost[*count] * 1000 / u32::try_from(*count).expect("small");
        (1..=LANES_MAX).min_by_key(each).expect("more than none")
    }
}

/// The kernels for SHA-1 of `backends` that this processor has.
pub(crate) fn sha1_kernels(backends: &[Backend]) -> Vec<Kernel<5>> {
    #[cfg(target_arch = "aarch64")]
    use Backend::Neon;
    use Backend::Single;
    #[cfg(target_arch = "x86_64")]
    use Backend::{Avx2, Avx512};
    let alone = if has_sha_instructions() { 100 } else { 200 };
    let kernels = [
        kernel(Single, 1, alone, |states, data| {
            sha1::block_api::compress(&mut states[0], data[0]);
        }),
        #[cfg(target_arch = "x86_64")]
        kernel(Avx2, 8, 480, crate::avx2::sha1::<1>),
        #[cfg(target_arch = "x86_64")]
        kernel(Avx2, 16, 760, crate::avx2::sha1::<2>),
        #[cfg(target_arch = "x86_64")]
        kernel(Avx512, 16, 340, crate::avx512::sha1::<1>),
        #[cfg(target_arch = "aarch64")]
        kernel(Neon, 4, 500, crate::neon::sha1::<1>),
    ];
    chosen(&kernels, backends)
}

/// The kernels for SHA-256 of `backends` that this processor has.
pub(crate) fn sha256_kernels(backends: &[Backend]) -> Vec<Kernel<8>> {
    #[cfg(target_arch = "aarch64")]
    use Backend::Neon;
    use Backend::Single;
    #[cfg(target_arch = "x86_64")]
    use Backend::{Avx2, Avx512, Pairs};
    let alone = if has_sha_instructions() { 100 } else { 200 };
    let kernels = [
        kernel(Single, 1, alone, |states, data| {
            sha2::block_api::compress256(&mut states[0], data[0]);
        }),
        #[cfg(target_arch = "x86_64")]
        kernel(Pairs, 2, 140, crate::pairs::sha256),
        #[cfg(target_arch = "x86_64")]
        kernel(Avx2, 8, 1050, crate::avx2::sha256::<1>),
        #[cfg(target_arch = "x86_64")]
        kernel(Avx2, 16, 1470, crate::avx2::sha256::<2>),
        #[cfg(target_arch = "x86_64")]
        kernel(Avx512, 16, 800, crate::avx512::sha256::<1>),
        #[cfg(target_arch = "x86_64")]
        kernel(Avx512, 32, 1070, crate::avx512::sha256::<2>),
        #[cfg(target_arch = "aarch64")]
        kernel(Neon, 4, 600, crate::neon::sha256::<1>),
    ];
    chosen(&kernels, backends)
}

fn kernel<const WORDS: usize>(
    backend: Backend,
    lanes: usize,
    cost: u32,
    compress: Compress<WORDS>,
) -> Kernel<WORDS> {
    Kernel { backend, lanes, cost, compress }
}

fn chosen<const WORDS: usize>(
    kernels: &[Kernel<WORDS>],
    backends: &[Backend],
) -> Vec<Kernel<WORDS>> {
    let is_chosen = |kernel: &&Kernel<WORDS>| {
        backends.contains(&kernel.backend) && kernel.backend.is_available()
    };
    kernels.iter().filter(is_chosen).copied().collect()
}
