// SPDX-License-Identifier: GPL-2.0

//! Makes a failing list of operations shorter.

/// Returns a part of `list` that still fails, the shortest that was found with at most `tries`
/// attempts.
pub fn minimise<T: Clone>(
    list: &[T],
    mut tries: usize,
    mut fails: impl FnMut(&[T]) -> bool,
) -> Vec<T> {
    let mut list = list.to_vec();
    let mut size = list.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        let mut shorter = false;
        while at < list.len() {
            if tries == 0 {
                return list;
            }
            tries -= 1;
            let mut without = list[..at].to_vec();
            without.extend_from_slice(&list[(at + size).min(list.len())..]);
            if fails(&without) {
                list = without;
                shorter = true;
            } else {
                at += size;
            }
        }
        if size == 1 && !shorter {
            break;
        }
        size = if size == 1 { 1 } else { size / 2 };
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_two_that_matter() {
        let list: Vec<u32> = (0..500).collect();
        let fails = |part: &[u32]| part.contains(&77) && part.contains(&401);
        assert_eq!(minimise(&list, 10_000, fails), [77, 401]);
    }

    #[test]
    fn keeps_the_order() {
        let list: Vec<u32> = (0..100).collect();
        let fails = |part: &[u32]| {
            let ten = part.iter().position(|&x| x == 10);
            let ninety = part.iter().position(|&x| x == 90);
            matches!((ten, ninety), (Some(a), Some(b)) if a < b)
        };
        assert_eq!(minimise(&list, 10_000, fails), [10, 90]);
    }

    #[test]
    fn ends_when_the_tries_do() {
        let list: Vec<u32> = (0..1000).collect();
        let mut tried = 0;
        let part = minimise(&list, 5, |_| {
            tried += 1;
            false
        });
        assert_eq!((part.len(), tried), (1000, 5));
    }
}
