//! Man pages: one for each command, from the definitions of its options and the sections in `manual/`.
//!
//! The definitions contain names, options and descriptions. Signals, exit status, environment, files
//! and examples are written by hand, in the format of man(7), in `manual/NAME.man`.

use std::io::{self, Write};

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command};
use clap_mangen::Man;
use roff::{Roff, bold, italic, roman};

/// The man page of a command.
#[derive(Debug)]
pub(crate) struct Page {
    /// Words of the command after `pagemill`, as in `["bench", "bulk"]`.
    pub(crate) words: Vec<String>,
    /// The page, in the format of man(7).
    pub(crate) text: String,
}

impl Page {
    /// Returns the name of the page's file.
    pub(crate) fn file_name(&self) -> String {
        format!("{}.1", name(&self.words))
    }
}

/// Sections that follow the options, by the name of the page.
const SECTIONS: [(&str, &str); 8] = [
    ("pagemill", include_str!("manual/pagemill.man")),
    ("pagemill-bench", include_str!("manual/pagemill-bench.man")),
    ("pagemill-bench-nfs", include_str!("manual/pagemill-bench-nfs.man")),
    ("pagemill-completions", include_str!("manual/pagemill-completions.man")),
    ("pagemill-man", include_str!("manual/pagemill-man.man")),
    ("pagemill-nfsd", include_str!("manual/pagemill-nfsd.man")),
    ("pagemill-top", include_str!("manual/pagemill-top.man")),
    ("pagemill-xdp", include_str!("manual/pagemill-xdp.man")),
];
/// The sections of all other pages.
const OTHER_SECTIONS: &str = include_str!("manual/exit-status.man");
/// Pages of other programs, by the name of the page that refers to them.
const OTHER_PAGES: [(&str, &[(&str, &str)]); 1] =
    [("pagemill-nfsd", &[("exports", "5"), ("mount.nfs", "8"), ("systemd.socket", "5")])];

/// Returns the pages of the command and of all its subcommands.
///
/// `command` is built, and has no command `help`. The pages have no date, so that each build of one
/// version makes the same ones.
pub(crate) fn pages(command: &Command) -> Vec<Page> {
    let mut pages = Vec::new();
    add_pages(command, &[], &mut pages);
    pages
}

fn add_pages(command: &Command, words: &[String], pages: &mut Vec<Page>) {
    pages.push(Page { words: words.to_vec(), text: page(command, words) });
    for subcommand in shown(command) {
        let words = [words, &[subcommand.get_name().to_owned()]].concat();
        add_pages(subcommand, &words, pages);
    }
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set())
}

fn name(words: &[String]) -> String {
    ["pagemill"].into_iter().chain(words.iter().map(String::as_str)).collect::<Vec<_>>().join("-")
}

fn page(command: &Command, words: &[String]) -> String {
    let name = name(words);
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        // An empty word would be left out, and the next one would be taken for the date.
        .date("\"\"")
        .source(concat!("pagemill ", env!("CARGO_PKG_VERSION")))
        .manual("Pagemill Manual");
    let mut own = Roff::new();
    description(&mut own, command);
    options(&mut own, command);
    let (_, sections) =
        SECTIONS.iter().find(|(of, _)| *of == name).unwrap_or(&("", OTHER_SECTIONS));
    [
        // Defines the apostrophe; each part begins with it.
        Roff::new().render(),
        part(|out| man.render_title(out)),
        part(|out| man.render_name_section(out)),
        part(|out| synopsis(command, &name).to_writer(out)),
        part(|out| own.to_writer(out)),
        if command.has_subcommands() {
            part(|out| man.render_subcommands_section(out))
        } else {
            String::new()
        },
        (*sections).to_owned(),
        part(|out| see_also(command, words).to_writer(out)),
    ]
    .concat()
    .replace("docs/", PACKAGED_DOCS)
}

/// Where packages install the files of `docs/`, which the help of the program names.
const PACKAGED_DOCS: &str = "/usr/share/doc/pagemill/";

/// Most options that a synopsis lists.
const FEW_OPTIONS: usize = 6;

/// Returns the section that shows how the command is called.
///
/// `clap_mangen` leaves out the values of options, and lists any number of options.
fn synopsis(command: &Command, name: &str) -> Roff {
    let shown = || command.get_arguments().filter(|arg| !arg.is_hide_set());
    let mut words = vec![bold(name.replace('-', " "))];
    let options: Vec<_> = shown().filter(|arg| !arg.is_positional()).collect();
    if options.len() > FEW_OPTIONS {
        words.extend([roman(" ["), italic("OPTIONS"), roman("]")]);
    } else {
        for option in options {
            words.push(roman(" ["));
            let long = option.get_long().map(|long| format!("--{long}"));
            let short = option.get_short().map(|short| format!("-{short}"));
            words.push(bold(long.or(short).expect("an option has a name")));
            let nr_values = option.get_num_args().expect("the command is built");
            if nr_values.takes_values() {
                let is_optional = nr_values.min_values() == 0;
                let (before, after) = if is_optional { (" [", "]") } else { (" ", "") };
                let value = option.get_value_names().unwrap_or_default().join(" ");
                words.extend([roman(before), italic(value), roman(after)]);
            }
            words.push(roman("]"));
        }
    }
    for arg in shown().filter(|arg| arg.is_positional()) {
        let (before, after) = if arg.is_required_set() { (" ", "") } else { (" [", "]") };
        let value = arg.get_value_names().unwrap_or_default().join(" ");
        let is_list = arg.get_num_args().is_some_and(|nr| nr.max_values() > 1)
            || matches!(arg.get_action(), ArgAction::Append);
        let more = if is_list { "..." } else { "" };
        words.extend([roman(before), italic(value), roman(format!("{after}{more}"))]);
    }
    if command.has_subcommands() {
        let is_required = command.is_subcommand_required_set();
        let (before, after) = if is_required { (" ", "") } else { (" [", "]") };
        words.extend([roman(before), italic("COMMAND"), roman(after)]);
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]).text(words);
    roff
}

/// Returns what `render` writes, without the definition of the apostrophe.
fn part(render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
    let mut text = Vec::new();
    render(&mut text).expect("a vector takes all that is written");
    let text = String::from_utf8(text).expect("it consists of strings");
    text.replace(&Roff::new().render(), "")
}

fn description(roff: &mut Roff, command: &Command) {
    roff.control("SH", ["DESCRIPTION"]);
    let about = command.get_about().map(StyledStr::to_string).unwrap_or_default();
    let text = command.get_long_about().map(StyledStr::to_string).unwrap_or_default();
    // The section NAME has the first paragraph already.
    let rest = text.strip_prefix(&about).map(str::trim_start).unwrap_or(&text);
    paragraphs(roff, if rest.is_empty() { &about } else { rest }, "PP");
}

/// Appends the paragraphs of `text`, with the macro `separator` between them.
///
/// A paragraph whose lines are indented is a list of terms and their definitions, which are at least two
/// blanks apart, or an example.
fn paragraphs(roff: &mut Roff, text: &str, separator: &str) {
    for (index, paragraph) in text.split("\n\n").enumerate() {
        if paragraph.starts_with(' ') {
            indented(roff, paragraph);
            continue;
        }
        if index > 0 {
            roff.control(separator, []);
        }
        for line in paragraph.lines() {
            roff.text([roman(line)]);
        }
    }
}

/// What a term or an example begins with, and what is at least between a term and its definition.
const INDENT: &str = "  ";

fn indented(roff: &mut Roff, paragraph: &str) {
    let lines = || paragraph.lines().map(|line| line.strip_prefix(INDENT).unwrap_or(line));
    let is_list = lines().next().is_some_and(|line| line.contains(INDENT));
    if !is_list {
        roff.control("PP", []).control("RS", ["4"]).control("EX", []);
        lines().for_each(|line| _ = roff.text([roman(line)]));
        roff.control("EE", []).control("RE", []);
        return;
    }
    for line in lines() {
        match line.split_once(INDENT) {
            Some((term, text)) if !term.is_empty() => {
                roff.control("TP", []).text([bold(term)]).text([roman(text.trim_start())]);
            }
            // The definition continues.
            _ => _ = roff.text([roman(line.trim_start())]),
        }
    }
}

fn options(roff: &mut Roff, command: &Command) {
    roff.control("SH", ["OPTIONS"]);
    let args: Vec<_> = command.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
    let mut headings: Vec<_> = args.iter().map(|arg| arg.get_help_heading()).collect();
    // Those without a heading come first.
    headings.sort_by_key(Option::is_some);
    headings.dedup();
    for heading in headings {
        if let Some(heading) = heading {
            roff.control("SS", [heading]);
        }
        args.iter()
            .filter(|arg| arg.get_help_heading() == heading)
            .for_each(|arg| option(roff, arg));
    }
}

fn option(roff: &mut Roff, arg: &Arg) {
    let value = arg.get_value_names().unwrap_or_default().join(" ");
    let nr_values = arg.get_num_args().expect("the command is built");
    let mut term = Vec::new();
    if let Some(short) = arg.get_short() {
        term.extend([bold(format!("-{short}")), roman(", ")]);
    }
    if let Some(long) = arg.get_long() {
        term.push(bold(format!("--{long}")));
    }
    if nr_values.takes_values() {
        let (before, after) = if nr_values.min_values() == 0 { (" [", "]") } else { (" ", "") };
        if arg.is_positional() {
            term.push(italic(value));
        } else {
            term.extend([roman(before), italic(value), roman(after)]);
        }
    }
    roff.control("TP", []).text(term);
    let help = arg.get_long_help().or_else(|| arg.get_help());
    paragraphs(roff, &help.map(StyledStr::to_string).unwrap_or_default(), "IP");
    let defaults = arg.get_default_values();
    if nr_values.takes_values() && !defaults.is_empty() {
        let defaults: Vec<_> = defaults.iter().map(|value| value.to_string_lossy()).collect();
        roff.text([roman(format!("[default: {}]", defaults.join(",")))]);
    }
    if nr_values.takes_values() {
        values(roff, arg);
    }
}

/// Appends the values that an option may have, if they are few.
fn values(roff: &mut Roff, arg: &Arg) {
    let values = arg.get_possible_values();
    let mut values = values.iter().filter(|value| !value.is_hide_set()).peekable();
    if values.peek().is_none() {
        return;
    }
    roff.control("RS", []);
    for value in values {
        roff.control("TP", []).text([bold(value.get_name())]);
        roff.text([roman(value.get_help().map(StyledStr::to_string).unwrap_or_default())]);
    }
    roff.control("RE", []);
}

/// Returns the section that names the pages above and below this one, and those of other programs.
fn see_also(command: &Command, words: &[String]) -> Roff {
    let above = (0..words.len()).map(|nr_words| name(&words[..nr_words]));
    let below = shown(command).map(|below| format!("{}-{}", name(words), below.get_name()));
    let mut pages: Vec<_> = above.chain(below).map(|name| (name, "1")).collect();
    let others = OTHER_PAGES.iter().filter(|(of, _)| *of == name(words));
    let others = others.flat_map(|(_, pages)| *pages);
    pages.extend(others.map(|&(name, section)| (name.to_owned(), section)));
    let last = pages.len() - 1;
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    for (index, (page, section)) in pages.into_iter().enumerate() {
        let end = if index < last { "," } else { "" };
        roff.text([bold(page), roman(format!("({section}){end}"))]);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    /// Calls `check` with each command and its page.
    fn with_each_page(check: impl Fn(&Command, &Page)) {
        let command = args::documented();
        for page in pages(&command) {
            let found = page.words.iter().try_fold(&command, |at, word| at.find_subcommand(word));
            check(found.expect("a page is of a command"), &page);
        }
    }

    #[test]
    fn every_command_has_a_page_that_names_it() {
        fn count(command: &Command) -> usize {
            1 + shown(command).map(count).sum::<usize>()
        }
        let command = args::documented();
        assert_eq!(pages(&command).len(), count(&command));
        with_each_page(|command, page| {
            let name = name(&page.words);
            let title = format!(
                ".TH {} 1 \"\" \"pagemill {}\" \"Pagemill Manual\"\n",
                name.to_uppercase(),
                env!("CARGO_PKG_VERSION")
            );
            assert!(page.text.contains(&title), "{}", page.text);
            let about = command.get_about().expect("every command has a line").to_string();
            assert!(page.text.contains(&escaped(&format!("{name} - {about}\n"))), "{name}");
            assert_eq!(page.file_name(), format!("{name}.1"));
        });
    }

    /// A text as the pages have it.
    fn escaped(text: &str) -> String {
        let text = text.replace("docs/", PACKAGED_DOCS);
        text.replace('\\', "\\\\").replace('-', "\\-").replace('\'', "\\*(Aq")
    }

    #[test]
    fn every_option_is_in_its_page_with_its_help_its_values_and_its_default() {
        with_each_page(|command, page| {
            let options = page.text.split(".SH OPTIONS").nth(1).expect("every page has options");
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let term = match (arg.get_long(), arg.get_value_names()) {
                    (Some(long), _) => format!("\\fB--{long}\\fR"),
                    (None, Some([value, ..])) => format!("\\fI{value}\\fR"),
                    _ => unreachable!("{arg:?} has no name"),
                };
                let term = term.replace('-', "\\-");
                let at = options.find(&term).unwrap_or_else(|| panic!("{term}: {options}"));
                let text = &options[at..];
                let text = &text[..text.find("\n.SS").unwrap_or(text.len())];
                let help = arg.get_long_help().or(arg.get_help()).expect("it has help").to_string();
                for line in help.lines() {
                    assert!(text.contains(&escaped(line)), "{term}: {line}");
                }
                if !arg.get_num_args().expect("it is built").takes_values() {
                    continue;
                }
                for value in arg.get_possible_values() {
                    let name = escaped(value.get_name());
                    assert!(text.contains(&format!("\\fB{name}\\fR")), "{term} {name}");
                }
                for value in arg.get_default_values() {
                    assert!(text.contains(&escaped(&value.to_string_lossy())), "{term}");
                }
            }
        });
    }

    #[test]
    fn hidden_options_are_in_no_page() {
        with_each_page(|_, page| assert!(!page.text.contains("die\\-with"), "{}", page.text));
    }

    #[test]
    fn sections_and_references_are_of_pages_that_exist() {
        let pages = pages(&args::documented());
        let names: Vec<_> = pages.iter().map(|page| name(&page.words)).collect();
        let is_built = |name: &str| cfg!(feature = "bench") || !name.starts_with("pagemill-bench");
        let own = SECTIONS.iter().map(|(name, _)| name);
        for name in own.chain(OTHER_PAGES.iter().map(|(name, _)| name)) {
            assert!(names.iter().any(|other| other == name) || !is_built(name), "{name}");
        }
        for page in &pages {
            assert_eq!(page.text.matches(".SH \"SEE ALSO\"").count(), 1);
            assert_eq!(page.text.matches(".SH EXIT STATUS").count(), 1, "{:?}", page.words);
        }
    }

    #[test]
    fn indented_paragraphs_are_lists_or_examples() {
        let text = "First:\n\n  a b   one\n        more\n  c     .two\n\n  run \\\n    it\n\nLast";
        let mut roff = Roff::new();
        paragraphs(&mut roff, text, "PP");
        assert_eq!(
            roff.to_roff(),
            "First:\n.TP\n\\fBa b\\fR\none\nmore\n.TP\n\\fBc\\fR\n\\&.two\n.PP\n.RS 4\n.EX\nrun \
             \\\\\n  it\n.EE\n.RE\n.PP\nLast\n"
        );
    }
}
