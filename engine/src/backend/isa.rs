//! Runs a kernel on the widest instruction set of this machine: the door to `unsafe` on the CPU.
//!
//! A [`Kernel`] is safe code with an inlined body. Each function below compiles that body once more with other CPU features
//! switched on; the results are equal bit for bit, because Rust never contracts or reorders floating-point operations.
//! `tests/exactness.rs` proves it for every kernel, and [`Isa::Scalar`] is the safe twin that needs no feature at all.
#![expect(
    unsafe_code,
    reason = "calls functions whose CPU features are asked for at run time; every other file of the CPU is safe"
)]

use std::{fmt, str::FromStr, sync::OnceLock};

/// Safe code to be compiled for several instruction sets.
pub trait Kernel {
    /// What comes out.
    type Output;

    /// The body, `L` lanes at a time; with `ADDS`, integers become floats by additions, for machines without an instruction
    /// for that. Implementations are marked `#[inline(always)]`: only then does the body take on the caller's features.
    fn run<const L: usize, const ADDS: bool>(self) -> Self::Output;
}

/// An instruction set that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Isa(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Sse2,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// One lane at a time, by the definition of the contract.
    pub const SCALAR: Self = Self(Level::Scalar);

    /// Every instruction set of this machine, narrowest first.
    #[must_use]
    pub fn available() -> &'static [Self] {
        static FOUND: OnceLock<Vec<Isa>> = OnceLock::new();
        FOUND.get_or_init(|| {
            let mut found = vec![Self::SCALAR];
            #[cfg(target_arch = "x86_64")]
            {
                found.push(Self(Level::Sse2));
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    found.push(Self(Level::Avx2));
                }
                if ["f", "dq", "vl", "bw"].iter().all(|feature| has_avx512(feature)) && is_x86_feature_detected!("fma")
                {
                    found.push(Self(Level::Avx512));
                }
            }
            found
        })
    }

    /// The widest of them.
    #[must_use]
    pub fn widest() -> Self {
        *Self::available().last().expect("the scalar set is always there")
    }

    /// Runs a kernel on this instruction set.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Level::Scalar => kernel.run::<1, false>(),
            #[cfg(target_arch = "x86_64")]
            Level::Sse2 => kernel.run::<2, false>(),
            // SAFETY: an `Isa` of this level is only made where the CPU has said that it has these features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { run_avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { run_avx512(kernel) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx512(feature: &str) -> bool {
    match feature {
        "f" => is_x86_feature_detected!("avx512f"),
        "dq" => is_x86_feature_detected!("avx512dq"),
        "vl" => is_x86_feature_detected!("avx512vl"),
        _ => is_x86_feature_detected!("avx512bw"),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<4, true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,fma")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<8, false>()
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Level::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Sse2 => "sse2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        })
    }
}

impl FromStr for Isa {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let available = Self::available();
        available.iter().copied().find(|isa| isa.to_string() == text).ok_or_else(|| {
            let names: Vec<String> = available.iter().map(Self::to_string).collect();
            format!("`{text}` is not an instruction set of this machine, which has {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_found_by_its_name_and_others_are_refused_with_the_list() {
        for &isa in Isa::available() {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        let refusal = "mmx".parse::<Isa>().unwrap_err();
        assert!(refusal.contains("`mmx`") && refusal.contains("scalar"), "{refusal}");
    }
}
