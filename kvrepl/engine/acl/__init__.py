"""Access control lists: who may run which command on which keys and channels.

    catalog     the commands as rules name them: a bit for each, masks for the categories
    selector    one set of permissions: its rules, how it is told, what it allows
    user        a name, passwords, a root selector and others beside it
    judge       user and request -> None, or what is denied and where
    userfile    `user` lines of a configuration, and the ACL file
    log         ACL LOG
    access      all of it for one engine: users, logins, gates, the end of clients

A client whose user may do everything pays nothing: the gate ACL is raised only for those whose
user is restricted (`Access.refresh`), and only then is anybody judged. Inside a script or EXEC,
where no gate is looked at, `Access` asks the user itself.

Source: Redis 7.0 acl.c.
"""
