//! What is process-wide: exit codes, signals, limits. Each test runs a program and looks at it from outside.
