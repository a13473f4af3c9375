//! The one listener: routes of export and ui.
