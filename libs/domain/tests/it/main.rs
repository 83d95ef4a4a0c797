//! The rules from outside: stages files, the table of decisions, random histories, and the
//! documentation that is made of them.

mod documents;
mod histories;
mod stages_file;
mod table;
