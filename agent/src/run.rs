//! The line: every room wired, left to right.
