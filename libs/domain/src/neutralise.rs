//! Makes text written by an agent harmless before it is posted.
