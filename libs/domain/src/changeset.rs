//! The files an attempt wants to change, and whether they may be published.
