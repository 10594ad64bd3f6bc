//! Finds what a misspelt word was meant to be.

/// Words longer than this are not compared: the comparison takes time and memory in proportion to both lengths.
const LENGTH_MAX: usize = 64;

/// Below this likeness (0 is nothing in common, 1 is equal) a guess confuses more than it helps.
const LIKENESS_MIN: f64 = 0.5;

/// The candidate most like a word, if one is like it at all. Case does not count; the first of equals wins.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LENGTH_MAX {
        return None;
    }
    let lower = word.to_lowercase();
    let mut best = (LIKENESS_MIN, None);
    for candidate in candidates {
        let likeness = likeness(&lower, candidate);
        if likeness > best.0 {
            best = (likeness, Some(candidate));
        }
    }
    best.1
}

fn likeness(lower: &str, candidate: &str) -> f64 {
    if candidate.len() > LENGTH_MAX {
        return 0.0;
    }
    strsim::normalized_damerau_levenshtein(lower, &candidate.to_lowercase())
}

/// "did you mean `x`?", where something is near.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, candidates).map(|nearest| format!("did you mean `{nearest}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_count_and_nonsense_finds_nothing() {
        assert_eq!(nearest("leapfrog", ["Yoshida4", "Leapfrog"]), Some("Leapfrog"));
        assert_eq!(nearest("yoshda", ["Yoshida4", "Leapfrog"]), Some("Yoshida4"));
        assert_eq!(nearest("xyzzy", ["Yoshida4", "Leapfrog"]), None);
        assert_eq!(nearest(&"x".repeat(1000), ["x"]), None);
    }
}
