use super::*;

/// The smallest configuration with two scopes, and `more` below it.
fn example(more: &str) -> String {
    format!(
        "
resource: http://localhost:9001/mcp
authorizationServers: [http://localhost:9000]
upstream: {{ url: http://127.0.0.1:8000/mcp }}
introspection: {{ endpoint: http://auth:8081/introspect, tokenFile: /token }}
scopes: [{{ name: notes:read }}, {{ name: notes:write, implies: [notes:read] }}]
{more}"
    )
}

/// `docs/reference/interfaces.md`, word for word.
const CONTRACT: &str = r#"
listen: { proxy: "[::]:8080", health: "[::]:9090" }   # both IP families, if the host has both
resource: http://localhost:9001/mcp      # RFC 8707 audience; its path is the path that the proxy serves
resourceName: notes
authorizationServers: [http://localhost:9000]
authorizationExtensions: [io.modelcontextprotocol/oauth-client-credentials] # what they serve; for clients that ask by server/discover
upstream:
  url: http://127.0.0.1:8000/mcp
  responseHeaderSeconds: 300             # then 504; streams have no limit, but listening streams
                                         # (GET, subscriptions/listen) end when their token does
introspection:
  endpoint: http://auth-authserver-internal.default.svc:8081/introspect
  # ca: |                                # with an https endpoint: the CA of its certificate, in PEM
  tokenFile: /var/run/secrets/mcpauth/token        # or `basic: { id, secretFile }`; exactly one
  cacheMilliseconds: 900
  cacheEntries: 10000
  timeoutMilliseconds: 3000
scopes:
  - { name: "notes:read", description: Read notes }
  - { name: "notes:write", description: Change notes, implies: ["notes:read"] }
access:
  rules:                                 # first match wins; `*` matches any run of characters
    - { tools: ["create_*"], scopes: ["notes:write"] }
    - { tools: [health], anyToken: true }          # either scopes or anyToken
    - { resources: ["notes://*"], scopes: ["notes:read"] }   # exactly one of tools, resources, prompts, methods
    - { prompts: ["*"], scopes: ["notes:read"] }
    - { methods: [acme/export], scopes: ["notes:write"] }    # methods that MCP does not define
  unmatched: RequireAllScopes            # or Deny (as if it did not exist), or AnyToken
  initialScopes: ["notes:read"]          # in the 401 and in scopes_supported; absent: all scopes
  lists: Held                            # lists show what the token may use; Grantable: also what another token of the same client and user
                                         # could use, for which introspection is asked with grantable_scope=true; or All
friction:                                # off if absent
  per: Subject                           # whose calls are counted together, or ClientAndSubject
  rate: { calls: 60, periodSeconds: 60 }           # for each tool; other methods count per method
  share: 0.2                             # optional; beyond `rate`, a tool's part of the subject's successful calls; requires subjectRate
  groups: [{ name: writes, tools: ["create_*"], rate: { calls: 30, periodSeconds: 60 }, share: 0.1 }]
  subjectRate: { calls: 600, periodSeconds: 60 }   # optional; per subject, across all clients and tools
  resourceRate: { calls: 6000, periodSeconds: 60 } # optional; above it, each subject is slowed by its own volume
  halfLifeSeconds: 30
  maxDelayMilliseconds: 30000
  warmupCalls: 10
  hardLimit: { calls: 3000, periodSeconds: 60 }    # optional; calls of a principal beyond it are refused with a tool error
limits: { bodyBytes: 4194304 }           # two such bodies per subject at a time; further ones wait
allowedOrigins: []                       # allowed browser origins beside the resource's own; requests without `Origin` are always allowed
identity: { headers: {} }                # X-MCP-Subject, X-MCP-Client-Id, X-MCP-Scopes to the server; absent: nothing
"#;

#[test]
fn the_contracts_file_is_read_and_its_values_are_the_defaults() {
    let config = ProxyConfig::parse(CONTRACT).unwrap();
    let short = ProxyConfig::parse(&example("")).unwrap();
    assert_eq!(config.listen, short.listen);
    assert_eq!(config.limits, short.limits);
    assert_eq!(config.upstream, short.upstream);
    assert_eq!(
        config.introspection,
        Introspection {
            endpoint: config.introspection.endpoint.clone(),
            token_file: config.introspection.token_file.clone(),
            ..short.introspection
        }
    );
    assert_eq!(config.access.unmatched, short.access.unmatched);
    assert_eq!(config.access.lists, short.access.lists);
    assert!(config.identity.is_some() && short.identity.is_none());
    assert!(config.friction.is_some() && short.friction.is_none());
}

#[test]
fn a_fault_names_its_key_and_what_would_be_right_on_one_line() {
    for (find, replace, message) in [
        (
            "http://localhost:9001/mcp",
            "/mcp",
            "resource: expected an absolute http or https URL",
        ),
        (
            "http://localhost:9001/mcp",
            "http://h/mcp?x",
            "resource: expected no query",
        ),
        (
            "[http://localhost:9000]",
            "[]",
            "authorizationServers: expected the issuer",
        ),
        (
            "[http://localhost:9000]",
            "['ftp://h']",
            "authorizationServers[0]: expected an http",
        ),
        (
            "http://127.0.0.1:8000/mcp",
            "https://h/mcp",
            "upstream.url: expected an http:// URL",
        ),
        (
            "http://auth:8081",
            "https://auth:8081",
            "introspection.endpoint: an https:// URL needs introspection.ca",
        ),
        (
            "http://auth:8081",
            "ftp://auth:8081",
            "introspection.endpoint: expected an http://",
        ),
        (
            "tokenFile: /token",
            "tokenFile: /t, ca: '-----BEGIN CERTIFICATE-----'",
            "introspection.endpoint: expected an https:// URL, because introspection.ca is set",
        ),
        (
            "http://auth:8081/introspect, ",
            "https://auth:8081/introspect, ca: x, ",
            "introspection.ca: expected certificates in PEM",
        ),
        (
            "http://auth:8081/introspect, ",
            "https://u@auth:8081/introspect, ca: x, ",
            "introspection.endpoint: expected no user name",
        ),
        (
            "tokenFile: /token",
            "cacheEntries: 1",
            "introspection: expected a credential",
        ),
        (
            "tokenFile: /token",
            "tokenFile: /t, basic: { id: a, secretFile: /s }",
            "introspection: expected either tokenFile or basic",
        ),
        (
            "tokenFile: /token",
            "tokenFile: /t, cacheEntries: 0",
            "introspection.cacheEntries: 0 is",
        ),
        (
            "tokenFile: /token",
            "tokenFile: /t, cachMilliseconds: 1",
            "cachMilliseconds",
        ),
        (
            "name: notes:read ",
            "name: 'a b' ",
            "scopes[0].name: expected 1 to 128 printable",
        ),
        (
            "name: notes:read ",
            "name: notes:write ",
            "scopes[1].name: an earlier scope has the same name, \"notes:write\"",
        ),
        (
            "implies: [notes:read]",
            "implies: [other]",
            "scopes[1].implies[0]: \"other\" is not in",
        ),
        ("resource:", "resourceX: 1\nresource:", "resourceX"),
        ("upstream:", "unused:", "unused"),
    ] {
        let text = example("");
        assert!(text.contains(find), "{find}");
        let error = ProxyConfig::parse(&text.replacen(find, replace, 1))
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{replace}\n{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    for (more, message) in [
        (
            "access: { rules: [{ tools: [''], anyToken: true }] }",
            "access.rules[0].tools[0]: expected 1 to 128 characters",
        ),
        (
            "access: { rules: [{ tools: [a], scopes: [x] }] }",
            "access.rules[0].scopes[0]: \"x\" is not in `scopes`",
        ),
        (
            "access: { rules: [{ tools: [a] }] }",
            "access.rules[0].scopes: expected scopes, or anyToken",
        ),
        (
            "authorizationExtensions: ['']",
            "authorizationExtensions[0]: expected 1 to 128 characters",
        ),
        (
            "authorizationExtensions: [x/a, x/b, x/a]",
            "authorizationExtensions[2]: an earlier entry is the same",
        ),
        (
            "authorizationExtensions: [a, b, c, d, e, f, g, h, i]",
            "authorizationExtensions: expected at most 8 entries",
        ),
        ("identity: { jwt: {} }", "identity: unknown variant"),
        (
            "limits: { bodyBytes: 0 }",
            "limits.bodyBytes: 0 is out of range",
        ),
        (
            "allowedOrigins: ['https://h/']",
            "allowedOrigins[0]: expected an origin",
        ),
        (
            "allowedOrigins: ['*']",
            "allowedOrigins[0]: expected an origin",
        ),
        (
            "listen: { proxy: nonsense }",
            "listen.proxy: invalid socket address",
        ),
        (
            "access: { rules: [{ tools: [a], scopes: x }] }",
            "access.rules[0].scopes: invalid type",
        ),
        (
            "limits: { bodyBytes: -1 }",
            "limits.bodyBytes: invalid value",
        ),
        ("limits: [", "not valid YAML"),
        ("limits: { bodyBytes: 1, bodyBytes: 2 }", "not valid YAML"),
        (
            "friction: { rate: { calls: 0, periodSeconds: 1 } }",
            "friction.rate.calls: 0 is out",
        ),
        ("upstream: { url: http://h }", "upstream"),
    ] {
        let error = ProxyConfig::parse(&example(more)).unwrap_err().to_string();
        assert!(error.contains(message), "{more}\n{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn what_is_written_is_read() {
    for text in [CONTRACT.to_owned(), example("")] {
        let config = ProxyConfig::parse(&text).unwrap();
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(ProxyConfig::parse(&written).unwrap(), config);
    }
}
