//! The double-entry book: every change of a conserved quantity has a counter-entry.
//!
//! What the particles hold plus what the accounts hold is, quantity by quantity, what there was at the start: as integers, with
//! `==`. Anyone may post; [`crate::audit`] compares the book with an independent recount.
//! Entries are integers and their sums wrap, so neither order nor grouping matters.

use std::collections::BTreeMap;

use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};

use crate::math::{add3, cross, negate3};

/// Angular momentum that the rounding of pair impulses to quanta gave to the particles (x × K does not quite cancel).
pub const KICK_ROUNDING: &str = "kick rounding";
/// Angular momentum that the rounding of drifts gave to the particles (Δx is not quite parallel to p).
pub const DRIFT_ROUNDING: &str = "drift rounding";
/// What test particles took without pulling back.
pub const REACTION: &str = "reaction";

/// What recorded breaches gave to the particles from nowhere.
pub const UNEXPLAINED: &str = "unexplained";

/// Amounts of every conserved quantity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// Number of particles.
    #[serde(with = "text")]
    pub count: i128,
    /// Mass [mass quanta].
    #[serde(with = "text")]
    pub mass: i128,
    /// Linear momentum [momentum quanta].
    #[serde(with = "text3")]
    pub momentum: [i128; 3],
    /// Angular momentum about the origin [position quanta · momentum quanta].
    #[serde(with = "text3")]
    pub angular_momentum: [i128; 3],
    /// Energy [energy quanta].
    #[serde(with = "text")]
    pub energy: i128,
}

impl Amounts {
    /// The sum, quantity by quantity, modulo 2¹²⁸.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            count: self.count.wrapping_add(other.count),
            mass: self.mass.wrapping_add(other.mass),
            momentum: add3(self.momentum, other.momentum),
            angular_momentum: add3(self.angular_momentum, other.angular_momentum),
            energy: self.energy.wrapping_add(other.energy),
        }
    }

    /// The same but for energy, which is bounded and not exact.
    #[must_use]
    pub fn without_energy(self) -> Self {
        Self { energy: 0, ..self }
    }

    /// What the particles gained, as the counter-entry that balances it.
    #[must_use]
    pub fn counter_entry(self) -> Self {
        Self {
            count: self.count.wrapping_neg(),
            mass: self.mass.wrapping_neg(),
            momentum: negate3(self.momentum),
            angular_momentum: negate3(self.angular_momentum),
            energy: self.energy.wrapping_neg(),
        }
    }

    /// The change of a particle at `position` whose momentum grows by `impulse`: the impulse and its torque.
    #[must_use]
    pub fn of_impulse(position: [i64; 3], impulse: [i64; 3]) -> Self {
        Self { momentum: impulse.map(i128::from), angular_momentum: cross(position, impulse), ..Self::default() }
    }
}

/// The book of one node.
#[derive(Resource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// What the particles held at the start.
    pub opening: Amounts,
    /// What each account has taken up since.
    pub accounts: BTreeMap<String, Amounts>,
}

impl Ledger {
    /// A book that opens with these amounts.
    #[must_use]
    pub fn opened_with(opening: Amounts) -> Self {
        Self { opening, accounts: BTreeMap::new() }
    }

    /// Books that the particles gained `gained` from `account` (negative amounts: lost to it).
    pub fn post(&mut self, account: &str, gained: Amounts) {
        let entry = gained.counter_entry();
        match self.accounts.get_mut(account) {
            Some(held) => *held = held.plus(entry),
            None => drop(self.accounts.insert(account.to_owned(), entry)),
        }
    }

    /// What the accounts hold together.
    #[must_use]
    pub fn booked(&self) -> Amounts {
        self.accounts.values().fold(Amounts::default(), |sum, held| sum.plus(*held))
    }

    /// What the particles must hold now: the opening less what the accounts took up.
    #[must_use]
    pub fn due(&self) -> Amounts {
        self.opening.plus(self.booked().counter_entry())
    }
}

/// Integers of 128 bits as decimal text: JSON numbers lose everything beyond 2⁵³ in most readers.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &i128, output: S) -> Result<S::Ok, S::Error> {
        output.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<i128, D::Error> {
        String::deserialize(input)?.parse().map_err(D::Error::custom)
    }
}

/// Three of them.
mod text3 {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &[i128; 3], output: S) -> Result<S::Ok, S::Error> {
        value.map(|v| v.to_string()).serialize(output)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<[i128; 3], D::Error> {
        let [x, y, z] = <[String; 3]>::deserialize(input)?;
        let parse = |text: String| text.parse().map_err(D::Error::custom);
        Ok([parse(x)?, parse(y)?, parse(z)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_particles_gain_an_account_loses() {
        let mut ledger = Ledger::opened_with(Amounts { count: 3, ..Amounts::default() });
        ledger.post("medium", Amounts::of_impulse([1, 0, 0], [0, -5, 0]));
        ledger.post("medium", Amounts::of_impulse([0, 2, 0], [7, 0, 0]));

        assert_eq!(ledger.due().momentum, [7, -5, 0]);
        assert_eq!(ledger.due().angular_momentum, [0, 0, -5 - 14]);
        assert_eq!(ledger.due().count, 3);
        assert_eq!(ledger.accounts["medium"].momentum, [-7, 5, 0]);
    }

    #[test]
    fn the_book_survives_json_to_the_last_bit() {
        let mut ledger = Ledger::default();
        ledger.post("far", Amounts { energy: i128::MAX, momentum: [i128::MIN + 1, -1, 0], ..Amounts::default() });
        let text = serde_json::to_string(&ledger).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
    }
}
