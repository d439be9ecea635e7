//! Suggestions for misspelt names.

/// Returns how many letters must be inserted, deleted, replaced or swapped with their neighbour to
/// turn `a` into `b`.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// Returns the known name that `written` was probably meant to be, at most two edits away.
pub(crate) fn meant<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| (distance(written, name), *name))
        .filter(|(edits, name)| *edits <= 2 && *edits < name.len())
        .min()
        .map(|(_, name)| name)
}

/// Lists names as `a`, `b` or `c`, in backquotes.
pub(crate) fn list(known: &[&str]) -> String {
    let quoted: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{list, meant};

    #[test]
    fn a_swap_is_one_edit_and_far_names_are_not_meant() {
        let known = ["line_received", "data_received"];
        assert_eq!(meant("line_recieved", &known), Some("line_received"));
        assert_eq!(meant("dataReceived", &known), Some("data_received"));
        assert_eq!(meant("received", &known), None);
    }

    #[test]
    fn lists_read_as_a_sentence() {
        assert_eq!(list(&["a"]), "`a`");
        assert_eq!(list(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
