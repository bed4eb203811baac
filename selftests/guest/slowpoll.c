// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/slowpoll: a file whose poll waits, as a file server's may, until the
 * file is written to, or the poller is killed. In a mapping of it a page fault
 * succeeds and brings nothing, as one of a write to a shadow stack does.
 */
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>

static DECLARE_COMPLETION(released);
static atomic_t pollers;

static __poll_t slowpoll_poll(struct file *file, struct poll_table_struct *table)
{
	atomic_inc(&pollers);
	if (wait_for_completion_killable(&released))
		return EPOLLERR;
	return EPOLLIN;
}

/* How many have come to poll, as one byte. */
static ssize_t slowpoll_read(struct file *file, char __user *to, size_t count, loff_t *pos)
{
	u8 byte = atomic_read(&pollers);

	return count && !copy_to_user(to, &byte, 1) ? 1 : -EFAULT;
}

static ssize_t slowpoll_write(struct file *file, const char __user *from, size_t count, loff_t *pos)
{
	complete_all(&released);
	return count;
}

static vm_fault_t slowpoll_fault(struct vm_fault *fault)
{
	return VM_FAULT_NOPAGE;
}

static const struct vm_operations_struct slowpoll_vm_ops = {
	.fault = slowpoll_fault,
};

static int slowpoll_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &slowpoll_vm_ops;
	return 0;
}

static const struct file_operations slowpoll_fops = {
	.owner = THIS_MODULE,
	.poll = slowpoll_poll,
	.read = slowpoll_read,
	.write = slowpoll_write,
	.mmap = slowpoll_mmap,
};

static struct miscdevice slowpoll_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "slowpoll",
	.fops = &slowpoll_fops,
};

module_misc_device(slowpoll_device);

MODULE_DESCRIPTION("A file whose poll waits");
MODULE_LICENSE("GPL");
