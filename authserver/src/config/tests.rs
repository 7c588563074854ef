use super::*;

#[test]
fn defaults_are_those_of_the_reference() {
    let dir = std::env::temp_dir().join(format!("mcpauth-config-{}", std::process::id()));
    std::fs::write(&dir, "1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").unwrap();
    let text = format!(
        "issuer: http://localhost:9000\n\
         listen: {{ public: '0.0.0.0:8080', internal: '0.0.0.0:8081', health: '[::]:9090' }}\n\
         keysFile: {}\n\
         storage: {{ memory: {{}} }}\n\
         login: {{ developmentAutoApprove: {{ subject: developer }} }}\n",
        dir.display()
    );
    let config = Config::parse(&text);
    std::fs::remove_file(&dir).unwrap();
    let config = config.unwrap();
    let seconds = |duration: std::time::Duration| duration.as_secs();
    assert_eq!(seconds(config.tokens.access()), 900);
    assert_eq!(seconds(config.tokens.refresh()), 2_592_000);
    assert_eq!(seconds(config.tokens.grant()), 7_776_000);
    assert_eq!(seconds(config.tokens.authorization_code()), 60);
    assert_eq!(seconds(config.tokens.refresh_grace()), 60);
    assert_eq!(config.rate_limit.client_requests_per_minute, 600);
    assert_eq!(config.rate_limit.address_failures_per_minute, 60);
    assert_eq!(config.registration.dynamic, None);
    assert!(config.internal.service_account_audience.is_none());
}

#[test]
fn the_text_of_an_error_is_one_line() {
    let error = Config::parse("issuer: [\n").unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
}
