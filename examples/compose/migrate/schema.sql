create table if not exists notes (id serial primary key, text text not null);
insert into notes (text) select 'made by migrate' where not exists (select from notes);
