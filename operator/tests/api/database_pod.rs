//! What the managed database's pod runs, with PostgreSQL's own programs.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use k8s_openapi::api::core::v1::Probe;
use mcpauth_test_support::postgres::{Postgres, script, script_of_a_stranger};

use mcpauth_test_support::wait::eventually;

use crate::configuration::database_pod;

/// Whether a probe would succeed if PostgreSQL listened on `port`.
fn succeeds(probe: Option<Probe>, port: u16) -> bool {
    let command = probe.unwrap().exec.unwrap().command.unwrap();
    assert_eq!(command[..2], ["sh", "-c"]);
    // Whoever the platform runs the container as.
    let verdicts = [script, script_of_a_stranger].map(|run_by| {
        let mut command = run_by(&command[2]);
        command.env("PGPORT", port.to_string());
        command.env("POSTGRES_USER", "mcpauth");
        command.status().unwrap().success()
    });
    assert_eq!(verdicts[0], verdicts[1]);
    verdicts[0]
}

/// Startup, liveness, readiness.
fn verdicts(port: u16) -> [bool; 3] {
    let container = database_pod().containers.remove(0);
    let probes = [
        container.startup_probe,
        container.liveness_probe,
        container.readiness_probe,
    ];
    probes.map(|probe| succeeds(probe, port))
}

/// What a server answers that recovers, however long that takes.
fn recovering() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            // Questions for encryption have eight bytes.
            while connection.read(&mut [0; 1024]).is_ok_and(|read| read == 8) {
                let _ = connection.write_all(b"N");
            }
            let fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
            let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
            let _ = connection.write_all(&[b"E", &length[..], fields].concat());
        }
    });
    port
}

#[tokio::test]
async fn probes_let_a_long_recovery_live() {
    assert_eq!(verdicts(recovering()), [true, true, false]);
    let (server, url) = Postgres::on_tcp(None);
    let port: u16 = url.split([':', '/']).nth(4).unwrap().parse().unwrap();
    assert_eq!(verdicts(port), [true, true, true]);
    server.kill();
    eventually("all say that it is gone", || async {
        let verdicts = verdicts(port);
        (verdicts == [false; 3]).then_some(())
    })
    .await;
}

/// A volume, and the password that its Secret has.
struct Volume {
    folder: tempfile::TempDir,
    /// Who the container's scripts are run by.
    run_by: fn(&str) -> std::process::Command,
}

impl Volume {
    /// One that the image initialised, and whose server was killed since.
    fn crashed(password: &str) -> Self {
        let volume = Self::new(password);
        volume.runs(
            "initdb -D $PGDATA -U $POSTGRES_USER --pwfile=$POSTGRES_PASSWORD_FILE --auth-host=scram-sha-256 \
             --auth-local=reject --no-sync >$DIR/initdb.log",
        );
        volume.runs(&format!(
            "{START}; pg_ctl stop -D $PGDATA -m immediate >$DIR/log"
        ));
        volume
    }

    fn new(password: &str) -> Self {
        let volume = Self {
            folder: tempfile::tempdir().unwrap(),
            run_by: script,
        };
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(volume.folder.path(), everybody).unwrap();
        volume.put("password", password);
        volume
    }

    /// Its files are handed over to a uid that has no name, as the image's entrypoint makes them for one.
    fn of_a_stranger(mut self) -> Self {
        let uid = script_of_a_stranger("id -u")
            .stdout(std::process::Stdio::piped())
            .output();
        let owner = String::from_utf8(uid.unwrap().stdout)
            .unwrap()
            .trim()
            .to_owned()
            + ":0";
        // Not when this is not root: then the scripts were all run by the same user.
        let _ = std::process::Command::new("chown")
            .args(["-R", &owner])
            .arg(self.folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        self.run_by = script_of_a_stranger;
        self
    }

    fn put(&self, file: &str, text: &str) {
        std::fs::write(self.folder.path().join(file), text).unwrap();
    }

    /// Runs a script with the environment of the pod's first container.
    fn run(&self, text: &str) -> std::process::Output {
        let container = database_pod().init_containers.unwrap().remove(0);
        let mut command = (self.run_by)(text);
        for variable in container.env.unwrap() {
            let folder = self.folder.path().to_str().unwrap();
            let value = variable.value.unwrap();
            let value = value.replace("/etc/mcpauth/postgres", folder);
            command.env(
                variable.name,
                value.replace("/var/lib/postgresql/data", folder),
            );
        }
        command.env("DIR", self.folder.path());
        command.env("TERMINATION_LOG", self.folder.path().join("said"));
        command
            .stdout(std::process::Stdio::piped())
            .output()
            .unwrap()
    }

    fn runs(&self, text: &str) {
        let output = self.run(text);
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        assert!(output.status.success(), "{text}: {output:?} {log}");
    }

    /// What the pod's first container does.
    fn prepare(&self) -> std::process::Output {
        let container = database_pod().init_containers.unwrap().remove(0);
        let command = container.command.unwrap();
        assert_eq!(command[..2], ["sh", "-c"]);
        self.run(&command[2])
    }

    /// Whether the server lets the role in with a password.
    fn takes(&self, password: &str) -> bool {
        self.runs(START);
        let login = "psql -h 127.0.0.1 -U $POSTGRES_USER -d postgres -c 'SELECT 1'";
        let output = self.run(&format!(
            "PGPORT=$(cat $DIR/port) PGPASSWORD={password} {login}"
        ));
        self.runs("pg_ctl stop -D $PGDATA -m immediate >$DIR/log");
        output.status.success()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }
}

/// Starts the server on a port of its own: another one, if somebody has that. They are below those that the system gives to
/// connections.
const START: &str = "for try in 1 2 3 4 5; do port=$((20000 + ($$ + try * 3571) % 12000)); echo $port >$DIR/port; \
                     pg_ctl start -w -D $PGDATA -l $DIR/log \
                     -o \"-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=\" >/dev/null && break; \
                     done";

/// O11: whatever password the volume was initialised with, the one in the Secret opens it, and no other.
#[test]
fn the_password_in_the_secret_opens_a_volume_that_had_another() {
    let volume = Volume::crashed("lost");
    assert!(volume.takes("lost"));
    for password in ["found", "it's \"quoted\" \\ $HOME"] {
        volume.put("password", password);
        let output = volume.prepare();
        assert!(output.status.success(), "{output:?}");
        let shown = String::from_utf8_lossy(&output.stderr);
        assert!(!shown.contains(password), "{shown}");
    }
    volume.put("password", "found");
    assert!(volume.prepare().status.success());
    assert!(volume.takes("found"));
    assert!(!volume.takes("lost"));
    let major = std::fs::read_to_string(volume.folder.path().join("pgdata/PG_VERSION")).unwrap();
    assert_eq!(volume.said(), major);
}

/// O15: a uid without a name and with the group 0, on a volume that its driver opens to that group.
#[test]
fn a_uid_that_the_platform_chose_can_run_it() {
    let volume = Volume::crashed("lost").of_a_stranger();
    volume.runs("chmod -R g+rwX $PGDATA");
    volume.put("password", "found");
    let output = volume.prepare();
    assert!(output.status.success(), "{output:?}");
    assert!(volume.takes("found"));
}

#[test]
fn an_image_of_another_major_version_leaves_the_volume_alone() {
    let volume = Volume::crashed("password");
    volume.put("pgdata/PG_VERSION", "12\n");
    let output = volume.prepare();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("the volume holds PostgreSQL 12 and the image is PostgreSQL "),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1);
    assert_eq!(volume.said(), "");
}

#[test]
fn an_empty_volume_is_left_to_the_image() {
    let volume = Volume::new("password");
    let output = volume.prepare();
    assert!(output.status.success(), "{output:?}");
    assert!(
        volume.said().trim().parse::<u32>().is_ok(),
        "{}",
        volume.said()
    );
    assert!(!volume.folder.path().join("pgdata").exists());
}
