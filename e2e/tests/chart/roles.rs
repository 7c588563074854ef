//! What the operator may do, and what others may do by the chart's roles.

use serde_json::Value;

use crate::render::{container, of_kind, only, read, rendered, strings};

const BOUNDED: &[&str] = &["watchNamespaces={team-a,team-b}"];

/// Every rule of every role that is bound to the operator, with the role's kind and name.
fn rules(objects: &[Value]) -> Vec<(&str, &str, &Value)> {
    let mut bindings = of_kind(objects, "RoleBinding");
    bindings.extend(of_kind(objects, "ClusterRoleBinding"));
    let bound = |role: &Value| {
        bindings.iter().any(|binding| {
            binding["roleRef"]["kind"] == role["kind"]
                && binding["roleRef"]["name"] == role["metadata"]["name"]
        })
    };
    objects
        .iter()
        .filter(|object| matches!(object["kind"].as_str(), Some("Role" | "ClusterRole")))
        .filter(|role| bound(role))
        .flat_map(|role| {
            let kind = role["kind"].as_str().unwrap();
            let name = role["metadata"]["name"].as_str().unwrap();
            let rules = role["rules"].as_array().unwrap();
            rules.iter().map(move |rule| (kind, name, rule))
        })
        .collect()
}

#[test]
fn no_permission_is_a_wildcard() {
    for settings in [&[][..], BOUNDED] {
        let objects = rendered(settings);
        let rules = rules(&objects);
        assert!(rules.len() > 8);
        for (_, name, rule) in rules {
            for field in ["apiGroups", "resources", "verbs", "resourceNames"] {
                assert!(!strings(&rule[field]).contains(&"*"), "{name}: {rule}");
            }
            assert!(!strings(&rule["verbs"]).is_empty(), "{name}: {rule}");
            assert!(rule.get("nonResourceURLs").is_none(), "{name}: {rule}");
        }
    }
}

#[test]
fn every_verb_has_its_reason() {
    let text = read("charts/mcp-auth-operator/templates/rbac.yaml");
    let verbs = [
        "get", "list", "watch", "create", "update", "patch", "delete", "bind",
    ];
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "));
    let mut seen = 0;
    for line in lines {
        let word = line.split_whitespace().next().unwrap();
        if verbs.contains(&word) {
            seen += 1;
            let reason = line.split_once('#').map_or("", |(_, reason)| reason.trim());
            assert!(reason.len() > 10, "no reason: {line}");
        }
    }
    assert!(seen > 20);
}

#[test]
fn it_may_delete_only_what_it_takes_away_by_itself() {
    let objects = rendered(&[]);
    let deleted: Vec<&str> = rules(&objects)
        .into_iter()
        .filter(|(_, _, rule)| strings(&rule["verbs"]).contains(&"delete"))
        .flat_map(|(_, _, rule)| strings(&rule["resources"]))
        .collect();
    let expected = ["poddisruptionbudgets", "networkpolicies", "secrets"];
    assert_eq!(deleted, expected);
}

#[test]
fn it_may_give_no_rights_and_make_tokens_of_one_account() {
    let objects = rendered(&[]);
    for (_, name, rule) in rules(&objects) {
        let verbs = strings(&rule["verbs"]);
        assert!(
            !verbs
                .iter()
                .any(|verb| ["bind", "escalate", "impersonate"].contains(verb)),
            "{name}"
        );
        if strings(&rule["resources"]).contains(&"serviceaccounts/token") {
            assert_eq!(strings(&rule["resourceNames"]), ["mcp-auth-operator"]);
        }
    }
}

#[test]
fn of_a_list_of_namespaces_it_is_told_and_nothing_else_can_be_read_or_written() {
    let objects = rendered(BOUNDED);
    assert!(of_kind(&objects, "ClusterRoleBinding").is_empty());
    assert!(rules(&objects).iter().all(|(kind, _, _)| *kind == "Role"));
    let mut namespaces: Vec<_> = of_kind(&objects, "Role")
        .iter()
        .map(|role| role["metadata"]["namespace"].as_str().unwrap())
        .collect();
    namespaces.sort_unstable();
    assert_eq!(namespaces, ["mcp-auth-system", "team-a", "team-b"]);
    let args = strings(&container(&objects)["args"]);
    for namespace in ["team-a", "team-b"] {
        let flag = format!("--watch-namespace={namespace}");
        assert!(args.contains(&flag.as_str()), "{args:?}");
    }
}

#[test]
fn roles_are_bound_to_the_operators_account() {
    for settings in [
        &[][..],
        BOUNDED,
        &["serviceAccount.name=other"],
        &["serviceAccount.create=false", "serviceAccount.name=theirs"],
    ] {
        let objects = rendered(settings);
        let account =
            &only(&objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"];
        match of_kind(&objects, "ServiceAccount").as_slice() {
            [] => assert_eq!(account, "theirs"),
            made => assert_eq!(&made[0]["metadata"]["name"], account),
        }
        let flag = format!("--service-account={}", account.as_str().unwrap());
        assert!(strings(&container(&objects)["args"]).contains(&flag.as_str()));
        let mut bindings = of_kind(&objects, "RoleBinding");
        bindings.extend(of_kind(&objects, "ClusterRoleBinding"));
        assert!(!bindings.is_empty());
        for binding in bindings {
            assert_eq!(&binding["subjects"][0]["name"], account);
            assert_eq!(binding["subjects"][0]["namespace"], "mcp-auth-system");
            let (kind, name) = (&binding["roleRef"]["kind"], &binding["roleRef"]["name"]);
            let role = objects.iter().find(|object| {
                &object["kind"] == kind
                    && &object["metadata"]["name"] == name
                    && object["metadata"]["namespace"] == binding["metadata"]["namespace"]
            });
            assert!(role.is_some(), "no {kind} {name}");
        }
    }
}

#[test]
fn somebody_else_can_make_the_roles() {
    let objects = rendered(&["rbac.create=false"]);
    for kind in ["Role", "RoleBinding", "ClusterRoleBinding"] {
        assert!(of_kind(&objects, kind).is_empty(), "{kind}");
    }
    let clusters = of_kind(&objects, "ClusterRole");
    let names: Vec<&str> = clusters
        .iter()
        .map(|role| role["metadata"]["name"].as_str().unwrap())
        .collect();
    let expected = [
        "mcp-auth-system-mcp-auth-operator-view",
        "mcp-auth-system-mcp-auth-operator-edit",
    ];
    assert_eq!(names, expected);
}

#[test]
fn the_clusters_own_roles_read_and_write_our_kinds_and_no_secret() {
    let objects = rendered(&[]);
    let role = |end: &str| {
        let name = format!("mcp-auth-system-mcp-auth-operator-{end}");
        *of_kind(&objects, "ClusterRole")
            .iter()
            .find(|role| role["metadata"]["name"] == name)
            .unwrap()
    };
    let to = |role: &Value, name: &str| {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{name}");
        role["metadata"]["labels"][label] == "true"
    };
    let kinds = ["mcpauthservers", "protectedmcpservers", "mcpoauthclients"];
    let (view, edit) = (role("view"), role("edit"));
    assert_eq!(strings(&view["rules"][0]["resources"]), kinds);
    assert_eq!(strings(&edit["rules"][0]["resources"]), kinds);
    for name in ["view", "edit", "admin"] {
        assert!(to(view, name), "{name}");
    }
    assert!(to(edit, "edit") && to(edit, "admin") && !to(edit, "view"));
    for rule in view["rules"].as_array().unwrap() {
        for verb in strings(&rule["verbs"]) {
            assert!(["get", "list", "watch"].contains(&verb), "{verb}");
        }
    }
    for rule in [view, edit]
        .map(|role| role["rules"].as_array().unwrap())
        .into_iter()
        .flatten()
    {
        assert_eq!(strings(&rule["apiGroups"]), ["mcpauth.io"]);
    }
    let none = rendered(&["rbac.aggregateClusterRoles=false"]);
    assert!(
        !of_kind(&none, "ClusterRole")
            .iter()
            .any(|role| to(role, "view") || to(role, "edit"))
    );
}
