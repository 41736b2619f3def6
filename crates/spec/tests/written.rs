//! How a written job looks where that is more than values in their order.

use lith_core::job::file::{Content, FileSource};
use lith_spec::{check, to_yaml};

#[test]
fn a_script_in_a_command_stands_as_it_is() {
    let text = r#"
job: j
tasks:
  t:
    image: x
    entrypoint: [ sh, -c ]
    command: [ "while :; do\n  echo \"$NAME $${NAME}\"\n\n  sleep 1\ndone\n", "one line", "two\nlines" ]
    health: { shell: "true" }
"#;
    let job = check("job.yaml", text).job.expect("the file is accepted");
    let written = to_yaml(&job);
    insta::assert_snapshot!(written, @r#"
    job: j
    tasks:
      t:
        image: x
        entrypoint: [ sh, "-c" ]
        command:
          - |
            while :; do
              echo "$NAME $${NAME}"

              sleep 1
            done
          - "one line"
          - |-
            two
            lines
        health: { shell: "true" }
    "#);
    assert_eq!(check("job.yaml", &written).job, Some(job));
}

/// No job file can have said it, but a request can.
#[test]
fn a_content_that_is_no_text_is_told_of() {
    let text = "job: j\nconfigs: { c: { content: x } }\ntasks: { t: { image: x } }\n";
    let mut job = check("job.yaml", text).job.expect("the file is accepted");
    for source in job.configs.values_mut() {
        *source = FileSource::Inline(Content([0xff, b'a'].as_slice().into()));
    }
    insta::assert_snapshot!(to_yaml(&job), @r#"
    job: j
    configs:
      # This content is not text: put it into a file beside this one, and name that.
      c:
        content: "\ufffda"
    tasks:
      t:
        image: x
    "#);
}
