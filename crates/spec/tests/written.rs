//! How a written job looks where that is more than values in their order.

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
