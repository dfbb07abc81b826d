/* SPDX-License-Identifier: MIT */
/* command.c - functions run by the pager for other threads; see command.h */
#include "monitor/command.h"
#include "monitor/pager.h"

void mt_commands_init(struct mt_commands *commands)
{
	pthread_mutex_init(&commands->lock, NULL);
	pthread_cond_init(&commands->finished, NULL);
	commands->first = NULL;
}

void mt_commands_fini(struct mt_commands *commands)
{
	MT_ASSERT(!commands->first);
	pthread_cond_destroy(&commands->finished);
	pthread_mutex_destroy(&commands->lock);
}

void mt_command(struct mt_pager *pager, mt_command_fn run, void *arg)
{
	struct mt_commands *commands = &pager->commands;
	struct mt_command command = {.run = run, .arg = arg};
	struct mt_command **last = &commands->first;

	pthread_mutex_lock(&commands->lock);
	while (*last)
		last = &(*last)->next;
	*last = &command;
	mt_pager_kick(pager);
	while (!command.done)
		pthread_cond_wait(&commands->finished, &commands->lock);
	pthread_mutex_unlock(&commands->lock);
}

bool mt_commands_run(struct mt_pager *pager)
{
	struct mt_commands *commands = &pager->commands;
	struct mt_command *command;

	if (pthread_mutex_trylock(&commands->lock))
		return true;
	command = commands->first;
	/* Run without the lock: nobody else takes the first one off the list. */
	pthread_mutex_unlock(&commands->lock);
	if (!command)
		return false;
	if (!command->run(pager, command->arg))
		return true;
	while (pthread_mutex_trylock(&commands->lock))
		;
	commands->first = command->next;
	command->done = true;
	pthread_cond_broadcast(&commands->finished);
	command = commands->first;
	pthread_mutex_unlock(&commands->lock);
	return command != NULL;
}
