"""Work on a Ray cluster, for those who outgrow one machine. Nothing else imports ray."""
