//! Each check has a script that people can run, and `.ci/run` calls every script but the shortcuts.

use crate::tree::{Finding, Tree};

/// The script that runs all others but [`SHORTCUTS`].
pub const RUN: &str = ".ci/run";
/// Scripts that [`RUN`] does not call: it calls the two parts of `fast.sh`, `mutants.sh` takes 30
/// hours, and `release.sh`, which calls `reproducible.sh`, is for a version that is about to be released.
pub const SHORTCUTS: &[&str] =
    &["ci/fast.sh", "ci/mutants.sh", "ci/release.sh", "ci/reproducible.sh"];
/// The test command that the README gives, and the script that holds it as a line of its own.
pub const README_COMMAND: (&str, &str) = ("cargo test --workspace", "ci/test.sh");

/// Checks that the scripts can be run, stop at the first error, and are called by [`RUN`].
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let run = tree.text(RUN).unwrap_or_default();
    for (path, file) in tree.iter().filter(|(path, _)| *path == RUN || is_script(path)) {
        let mut report = |rule: &str| findings.push(Finding::new(path, 1, rule));
        if !file.executable {
            report("is not executable");
        }
        if !file.text.starts_with("#!/usr/bin/env bash\n# ") {
            report("must begin with `#!/usr/bin/env bash` and a comment that says what it checks");
        }
        if !file.text.lines().any(|line| line == "set -euo pipefail") {
            report("has no line `set -euo pipefail`");
        }
        if path != RUN && !SHORTCUTS.contains(&path) && !calls(run, path) {
            report("is not called by .ci/run");
        }
    }
    for (line, number) in run.lines().zip(1..) {
        for script in called(line).filter(|script| tree.file(script).is_none()) {
            let rule = format!("calls {script}, which does not exist");
            findings.push(Finding::new(RUN, number, rule));
        }
    }
    let (command, script) = README_COMMAND;
    for path in [script, "README.md"] {
        if tree.text(path).is_some_and(|text| text.lines().all(|line| line.trim() != command)) {
            findings.push(Finding::new(path, 1, format!("has no line `{command}`")));
        }
    }
    findings
}

fn is_script(path: &str) -> bool {
    path.strip_prefix("ci/").is_some_and(|name| name.ends_with(".sh") && !name.contains('/'))
}

fn calls(run: &str, script: &str) -> bool {
    run.lines().any(|line| called(line).any(|called| called == script))
}

/// The scripts that a line names outside of a comment.
fn called(line: &str) -> impl Iterator<Item = &str> {
    line.split('#')
        .next()
        .unwrap_or_default()
        .split(|c: char| c.is_whitespace() || "\"';()".contains(c))
        .filter(|word| is_script(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::lines;

    const HEAD: &str = "#!/usr/bin/env bash\n# Checks.\nset -euo pipefail\n";

    fn good() -> Tree {
        Tree::default()
            .with("ci/fmt.sh", HEAD)
            .with("ci/fast.sh", HEAD)
            .with("ci/test.sh", &format!("{HEAD}cargo test --workspace\n"))
            .with("ci/proof/inner.sh", "")
            .with("README.md", "    cargo test --workspace\n")
            .with(RUN, &format!("{HEAD}for script in ci/fmt.sh ci/test.sh; do :; done\n"))
    }

    #[test]
    fn scripts_that_are_called_pass() {
        assert_eq!(lines(&check(&good())), [""; 0]);
    }

    #[test]
    fn a_script_that_nobody_calls_is_reported() {
        let run = format!("{HEAD}ci/test.sh\n# ci/fmt.sh\nci/gone.sh\n");
        assert_eq!(
            lines(&check(&good().with(RUN, &run))),
            [
                "ci/fmt.sh:1: is not called by .ci/run",
                ".ci/run:6: calls ci/gone.sh, which does not exist"
            ]
        );
    }

    #[test]
    fn a_script_that_cannot_be_run_or_runs_on_is_reported() {
        let tree = good().with("ci/fmt.sh", "cargo fmt\n").with_plain_mode("ci/fmt.sh");
        assert_eq!(
            lines(&check(&tree)),
            [
                "ci/fmt.sh:1: is not executable",
                "ci/fmt.sh:1: must begin with `#!/usr/bin/env bash` and a comment that says what it checks",
                "ci/fmt.sh:1: has no line `set -euo pipefail`"
            ]
        );
    }

    #[test]
    fn the_readme_and_the_script_give_the_same_command() {
        let tree = good().with("README.md", "cargo test\n").with("ci/test.sh", HEAD);
        assert_eq!(
            lines(&check(&tree)),
            [
                "ci/test.sh:1: has no line `cargo test --workspace`",
                "README.md:1: has no line `cargo test --workspace`"
            ]
        );
    }
}
