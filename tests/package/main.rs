//! What is shipped, on machines where nothing else is: installed, started, stopped, removed, and at work.

mod installed;
mod work;
