use super::same;

#[test]
fn only_the_slash_after_a_bare_host_may_differ() {
    assert!(same("https://a.example", "https://a.example/"));
    assert!(same("http://localhost:9001/", "http://localhost:9001"));
    assert!(same("https://a.example/mcp", "https://a.example/mcp"));
    for (one, other) in [
        ("https://a.example/mcp", "https://a.example/mcp/"),
        ("https://a.example/mcp", "https://a.example/mcp-x"),
        ("https://a.example", "https://a.example//"),
        ("https://a.example", "https://a.example?"),
        ("https://a.example", "https://A.example"),
        ("https://a.example", "http://a.example"),
        ("https://a.example", "https://a.example:443"),
        ("a", "a/"),
    ] {
        assert!(!same(one, other), "{one} {other}");
        assert!(!same(other, one), "{other} {one}");
    }
}
