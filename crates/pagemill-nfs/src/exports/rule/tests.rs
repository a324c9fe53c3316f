use super::*;
use crate::exports::{parse_export_arg, parse_exports, parse_good_exports};

fn one(text: &str) -> ExportRule {
    let mut rules = parse_exports(text, ExportOptions::default()).unwrap();
    assert_eq!(rules.len(), 1, "{text}");
    rules.remove(0)
}

fn refused(text: &str) -> String {
    parse_exports(text, ExportOptions::default()).unwrap_err().to_string()
}

#[test]
fn a_line_is_a_path_and_clients_with_options() {
    let rule = one("/srv/a  10.0.0.0/8(rw,no_root_squash,insecure) *(ro,anonuid=7,anongid=8)");
    assert_eq!(rule.path, Path::new("/srv/a"));
    let inner = rule.options_for("10.1.1.1".parse().unwrap()).unwrap();
    assert_eq!(inner.access, Access::ReadWrite);
    assert_eq!(inner.squash.who, SquashWho::Nobody);
    assert_eq!(inner.ports, Ports::Any);
    let outer = rule.options_for("11.1.1.1".parse().unwrap()).unwrap();
    assert_eq!(outer.access, Access::ReadOnly);
    assert_eq!((outer.squash.anon_uid, outer.squash.anon_gid), (7, 8));
    assert_eq!(outer.ports, Ports::Privileged);
}

#[test]
fn only_listed_clients_are_served_also_when_they_come_as_mapped_addresses() {
    let rule = one("/srv 10.0.0.1(rw)");
    assert!(rule.options_for("10.0.0.2".parse().unwrap()).is_none());
    assert!(rule.options_for("::ffff:10.0.0.1".parse().unwrap()).is_some());
}

#[test]
fn comments_continuations_quotes_and_escapes_are_read() {
    let text = "# nothing\n\n\"/a b\" \\\n *(rw) # all\n/c\\040d *\n";
    let rules = parse_exports(text, ExportOptions::default()).unwrap();
    let paths: Vec<_> = rules.iter().map(|rule| rule.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["/a b", "/c d"]);
    assert_eq!(rules[1].clients[0].options, ExportOptions::default());
}

#[test]
fn defaults_of_a_line_are_what_its_clients_begin_with() {
    let rule = one("/srv -rw,insecure 10.0.0.1 10.0.0.2(ro)");
    assert_eq!(rule.clients[0].options.access, Access::ReadWrite);
    assert_eq!(rule.clients[1].options.access, Access::ReadOnly);
    assert_eq!(rule.clients[1].options.ports, Ports::Any);
}

#[test]
fn what_cannot_be_read_is_told_with_its_line() {
    assert_eq!(refused("\n/srv"), "line 2: /srv has no client: write * for all clients");
    assert_eq!(refused("srv *"), "line 1: srv is not an absolute path: begin it with /");
    assert_eq!(refused("/srv *(rw"), "line 1: *(rw does not end with )");
    assert_eq!(refused("\"/srv *"), "line 1: a quote is not closed");
    assert!(refused("/srv *(rx)").starts_with("line 1: rx is not a supported option: use rw, ro"));
    assert!(refused("/srv *(anonuid=-1)").contains("needs a number"));
    assert!(refused("/srv *(anonuid=4294967295)").contains("needs a number"));
    assert!(refused("/a *\n/a *").contains("line 2: /a is exported twice"));
    assert!(refused("/a\\9 *").contains("octal"));
}

#[test]
fn an_argument_is_a_directory_and_options() {
    let defaults = ExportOptions { access: Access::ReadWrite, ..ExportOptions::default() };
    let read = |text: &str| parse_export_arg(text.as_ref(), defaults).unwrap();
    assert_eq!(read("/srv").path, Path::new("/srv"));
    assert_eq!(read("/srv").clients[0].client, ClientMatch::Any);
    assert_eq!(read("/srv").clients[0].options, defaults);
    assert_eq!(read("/srv:ro").clients[0].options.access, Access::ReadOnly);
    let rule = read("a:b:rw,all_squash,client=10.0.0.0/8,client=::1");
    assert_eq!(rule.path, Path::new("a:b"));
    assert_eq!(rule.clients.len(), 2);
    assert_eq!(rule.clients[1].options.squash.who, SquashWho::All);
    assert_eq!(read("/with:colon").path, Path::new("/with:colon"));
    assert!(parse_export_arg(":rw".as_ref(), defaults).is_err());
    let unknown = parse_export_arg("/srv:rw,nonsense".as_ref(), defaults).unwrap_err();
    assert!(unknown.to_string().contains("nonsense is not a supported option"));
}

#[test]
fn root_is_squashed_unless_told_otherwise() {
    let squash = |who| Squash { who, anon_uid: 99, anon_gid: 98 };
    let who = squash(SquashWho::Root).identity(0, 0, &[0, 5]);
    assert_eq!((who.uid(), who.gid(), who.groups()), (99, 98, &[98, 5][..]));
    let who = squash(SquashWho::Root).identity(7, 0, &[]);
    assert_eq!((who.uid(), who.gid()), (7, 98));
    let who = squash(SquashWho::Nobody).identity(0, 0, &[0]);
    assert_eq!((who.uid(), who.gid(), who.groups()), (0, 0, &[0][..]));
    let who = squash(SquashWho::All).identity(7, 7, &[7]);
    assert_eq!((who.uid(), who.gid(), who.groups()), (99, 98, &[][..]));
}

#[test]
fn numbers_that_are_nobodys_become_the_anonymous_user() {
    for (uid, gid, gids) in [(u32::MAX, 1, &[][..]), (1, u32::MAX, &[]), (1, 1, &[u32::MAX])] {
        let who = Squash { who: SquashWho::Nobody, ..Squash::default() }.identity(uid, gid, gids);
        assert_eq!((who.uid(), who.gid()), (ANONYMOUS, ANONYMOUS));
    }
}

#[test]
fn all_squash_and_root_squash_are_two_options_in_any_order() {
    let squashed = |options: &str| {
        let rule = one(&format!("/srv *({options})"));
        let arg = format!("/srv:{options}");
        let typed = parse_export_arg(arg.as_ref(), ExportOptions::default()).unwrap();
        assert_eq!(rule.clients[0].options, typed.clients[0].options);
        rule.clients[0].options.squash.who
    };
    assert_eq!(squashed("all_squash,root_squash"), SquashWho::All);
    assert_eq!(squashed("all_squash,no_root_squash"), SquashWho::All);
    assert_eq!(squashed("root_squash,all_squash"), SquashWho::All);
    assert_eq!(squashed("no_root_squash,all_squash,no_all_squash"), SquashWho::Nobody);
    assert_eq!(squashed("all_squash,no_all_squash"), SquashWho::Root);
    assert_eq!(squashed("no_root_squash,root_squash"), SquashWho::Root);
    assert_eq!(
        one("/srv -all_squash *(root_squash)").clients[0].options.squash.who,
        SquashWho::All
    );
}

#[test]
fn hosts_come_before_networks_and_those_before_all_whatever_the_order() {
    let access = |text: &str, client: &str| {
        let rule = one(text);
        rule.options_for(client.parse().unwrap()).unwrap().access
    };
    assert_eq!(access("/srv *(rw) 10.0.0.1(ro)", "10.0.0.1"), Access::ReadOnly);
    assert_eq!(access("/srv *(rw) 10.0.0.1(ro)", "10.0.0.2"), Access::ReadWrite);
    assert_eq!(access("/srv *(rw) 10.0.0.0/8(ro)", "10.0.0.1"), Access::ReadOnly);
    assert_eq!(access("/srv ::/0(rw) ::1/128(ro)", "::1"), Access::ReadOnly);
    assert_eq!(access("/srv 0.0.0.0/0(rw) 10.0.0.1/32(ro)", "10.0.0.1"), Access::ReadOnly);
    let mut named = one("/srv 127.0.0.0/8(rw) localhost(ro)");
    named.clients.iter_mut().for_each(|rule| rule.client.look_up().unwrap());
    assert_eq!(named.options_for("127.0.0.1".parse().unwrap()).unwrap().access, Access::ReadOnly);
    // Of one kind, the first on the line, as exports(5) has it.
    assert_eq!(access("/srv 10.0.0.0/8(ro) 10.1.0.0/16(rw)", "10.1.0.1"), Access::ReadOnly);
    assert_eq!(access("/srv 10.0.0.1(rw) 10.0.0.1(ro)", "10.0.0.1"), Access::ReadWrite);
}

#[test]
fn options_behind_a_blank_are_nobodys() {
    let error = "line 1: (rw) follows a space, so it has no client: write 10.0.0.1(rw) without the \
                 space, or *(rw) for all clients";
    assert_eq!(refused("/srv 10.0.0.1 (rw)"), error);
    // After the path, no other client precedes them.
    assert_eq!(one("/srv (rw)").clients[0].client, ClientMatch::Any);
}

#[test]
fn a_file_begins_with_the_defaults_that_it_is_given() {
    let defaults = ExportOptions { ports: Ports::Any, ..ExportOptions::default() };
    let rules = parse_exports("/a *\n/b *(secure)", defaults).unwrap();
    assert_eq!(rules[0].clients[0].options, defaults);
    assert_eq!(rules[1].clients[0].options, ExportOptions::default());
}

#[test]
fn good_lines_are_read_beside_bad_ones() {
    let text = "/one *(rw)\n/two *(nonsense)\nthree *\n/four 10.0.0.1 \\\n  10.0.0.2\n/one *\n";
    let (rules, errors) = parse_good_exports(text, ExportOptions::default());
    let read: Vec<_> =
        rules.iter().map(|(line, rule)| (*line, rule.path.to_str().unwrap())).collect();
    assert_eq!(read, [(1, "/one"), (4, "/four")]);
    let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [Some(2), Some(3), Some(6)]);
    assert_eq!(parse_exports(text, ExportOptions::default()).unwrap_err(), errors[0]);
}

#[test]
fn a_host_that_cannot_be_looked_up_gets_no_more_rights_by_a_wider_rule() {
    let served = |line: &str, client: &str| {
        one(line).options_for(client.parse().unwrap()).map(|options| {
            let Squash { who, anon_uid, .. } = options.squash;
            (options.access, options.ports, who, anon_uid)
        })
    };
    // No name is looked up here.
    let line = "/srv limited(ro,all_squash,anonuid=1) 10.0.0.1(rw,insecure,no_root_squash) \
                10.0.0.0/8(rw,insecure,no_root_squash) *(rw,insecure,all_squash,anonuid=1)";
    let limited = (Access::ReadOnly, Ports::Privileged, SquashWho::All, ANONYMOUS);
    assert_eq!(served(line, "10.0.0.2"), Some(limited), "it may be the host");
    assert_eq!(
        served(line, "192.0.2.1"),
        Some((Access::ReadOnly, Ports::Privileged, SquashWho::All, 1)),
        "the anonymous user is the same"
    );
    assert_eq!(
        served(line, "10.0.0.1"),
        Some((Access::ReadWrite, Ports::Any, SquashWho::Nobody, ANONYMOUS)),
        "an address that is named by itself is that client"
    );
    // A host with more rights limits no client, and a client that no rule matches is not served.
    let wide = "/srv trusted(rw,insecure,no_root_squash) 10.0.0.0/8(ro)";
    let defaults = (Access::ReadOnly, Ports::Privileged, SquashWho::Root, ANONYMOUS);
    assert_eq!(served(wide, "10.0.0.2"), Some(defaults));
    assert_eq!(served(wide, "192.0.2.1"), None);

    let mut rule = one(line);
    let ClientMatch::Host { addrs, .. } = &mut rule.clients[0].client else { unreachable!() };
    addrs.push("10.0.0.2".parse().unwrap());
    let full = rule.options_for("10.0.0.3".parse().unwrap()).unwrap();
    assert_eq!(full.access, Access::ReadWrite, "the host is known");
    let host = rule.options_for("10.0.0.2".parse().unwrap()).unwrap();
    assert_eq!((host.access, host.squash.anon_uid), (Access::ReadOnly, 1));
}
